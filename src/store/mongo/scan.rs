//! Reading all that memory is built from: fast, and from no point in time before the call.
//!
//! A linearizable read first finds out what the time is: it is answered by a primary that is one still, so its
//! operation time is not before anything that was answered earlier. The scan reads what a majority has after that
//! time, which holds of each batch by itself, even of one that a primary gives after it was deposed.
//! (<https://www.mongodb.com/docs/v6.0/core/causal-consistency-read-write-concerns/>)

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mongodb::bson::raw::RawBsonRef;
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::options::{FindOptions, Hint};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use tokio::sync::mpsc;

use super::audit::head_of;
use super::collections::KEYS;
use super::errors::{TimedOut, corrupt, store_error};
use super::migrations;
use super::rows::row_from_document;
use super::store::MongoStore;
use crate::domain::changes::Row;
use crate::domain::ids::TenantId;
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::systems::ListedSystem;
use crate::domain::time::Timestamp;
use crate::store::chunks::{CHUNKS_AHEAD, stream_of};
use crate::store::{ListedSystems, Result, Rows, ScanStore, StoreError};

/// Documents of a batch. The server ends a batch at 16 MiB, which are some 50 000 keys.
const ROWS_A_BATCH: u32 = 4_000;

const WHAT: &str = "scan";

#[async_trait]
impl ScanStore for MongoStore {
    async fn scan_rows(&self) -> Result<Rows> {
        let mut scan = Scan { session: self.session_from_now().await?, limit: self.limits.call };
        let collections = [&self.keys, &self.operators, &self.sessions].map(Clone::clone);
        let (chunks, taken) = mpsc::channel(CHUNKS_AHEAD);
        let reading = async move {
            for collection in collections {
                let name = collection.name().to_owned();
                let rows_of = move |batch: &RawBatch| rows_of(&name, batch);
                scan.read(&collection, doc! {}, FindOptions::default(), &chunks, rows_of).await?;
            }
            Ok(())
        };
        Ok(stream_of(taken, tokio::spawn(reading)))
    }

    /// The head is read in the session, so that it is not older than the linearizable read, and the systems are read
    /// after it.
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        let mut session = self.session_from_now().await?;
        let head = self.tenants.find_one(doc! { "_id": tenant.as_str() }).session(&mut session);
        let head = self.bounded(WHAT, head.max_time(self.limits.call)).await?;
        let number = head.map(head_of).transpose()?.unwrap_or_default().number;
        // About the order of ids, which begin with the time of creation.
        let options = FindOptions::builder()
            .projection(doc! { "folded": 1, "updatedAt": 1, "createdAt": 1 })
            .hint(Hint::Name(migrations::SYSTEMS_CREATED.to_owned()))
            .build();
        let (mut scan, systems) = (Scan { session, limit: self.limits.call }, self.systems.clone());
        let filter = doc! { "tenant": tenant.as_str() };
        let (chunks, taken) = mpsc::channel(CHUNKS_AHEAD);
        let reading = async move { scan.read(&systems, filter, options, &chunks, listed_systems_of).await };
        Ok((number, stream_of(taken, tokio::spawn(reading))))
    }
}

impl MongoStore {
    /// A session whose reads see everything that was answered before this call.
    async fn session_from_now(&self) -> Result<ClientSession> {
        let mut session = self.bounded(WHAT, self.client.start_session().causal_consistency(true)).await?;
        // Which document it is does not matter, nor whether it is there.
        let now = self.meta_linearizable.find_one(doc! { "_id": "version" }).session(&mut session);
        self.bounded(WHAT, now.max_time(self.limits.call)).await?;
        if session.operation_time().is_none() {
            return Err(corrupt("a read that was answered without its operation time"));
        }
        Ok(session)
    }
}

struct Scan {
    /// Every read of it is after the operation time that it knows.
    session: ClientSession,
    limit: Duration,
}

impl Scan {
    /// Sends what is found, until nobody takes it any more. The server's own limit of time would count all batches
    /// together, so there is none.
    async fn read<T: Send + 'static>(
        &mut self,
        collection: &Collection<Document>,
        filter: Document,
        options: FindOptions,
        chunks: &mpsc::Sender<Vec<T>>,
        rows_of: impl Fn(&RawBatch) -> Result<Vec<T>> + Clone + Send + 'static,
    ) -> Result<()> {
        let find = collection.find(filter).with_options(options).batch_size(ROWS_A_BATCH);
        let find = find.session(&mut self.session).batch();
        let mut cursor = in_time(self.limit, find).await?.map_err(store_error)?;
        let mut batches = cursor.stream(&mut self.session);
        let mut read = None;
        while let Some(batch) = in_time(self.limit, batches.next()).await? {
            let (batch, rows_of) = (batch.map_err(store_error)?, rows_of.clone());
            // One batch is decoded while the next one is on its way.
            let reading = tokio::task::spawn_blocking(move || rows_of(&batch));
            if let Some(before) = read.replace(reading)
                && chunks.send(joined(before).await?).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(last) = read {
            // Nobody may take it any more.
            let _ = chunks.send(joined(last).await?).await;
        }
        Ok(())
    }
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(|_| TimedOut::new(WHAT).into())
}

async fn joined<T>(reading: tokio::task::JoinHandle<Result<Vec<T>>>) -> Result<Vec<T>> {
    reading.await.map_err(|error| StoreError::Unavailable(error.into()))?
}

fn rows_of(collection: &str, batch: &RawBatch) -> Result<Vec<Row>> {
    let mut tenants = Tenants::default();
    let mut rows = Vec::with_capacity(ROWS_A_BATCH as usize);
    for document in documents_of(batch)? {
        let document = document?;
        rows.push(if collection == KEYS {
            Row::Key(key_of(document, &mut tenants)?)
        } else {
            row_from_document(collection, document.try_into().map_err(corrupt)?)?
        });
    }
    Ok(rows)
}

fn listed_systems_of(batch: &RawBatch) -> Result<Vec<ListedSystem>> {
    documents_of(batch)?.map(|document| listed_system_of(document?)).collect()
}

fn documents_of(batch: &RawBatch) -> Result<impl Iterator<Item = Result<&RawDocument>>> {
    let documents = batch.doc_slices().map_err(store_error)?;
    Ok(documents
        .into_iter()
        .map(|document| document.map_err(corrupt)?.as_document().ok_or_else(|| corrupt("a batch of no documents"))))
}

/// The tenants of a batch, each in memory once.
#[derive(Default)]
struct Tenants<'a>(HashMap<&'a str, TenantId>);

impl<'a> Tenants<'a> {
    fn get(&mut self, name: &'a str) -> Result<TenantId> {
        if let Some(tenant) = self.0.get(name) {
            return Ok(tenant.clone());
        }
        let tenant: TenantId = read(name)?;
        self.0.insert(name, tenant.clone());
        Ok(tenant)
    }
}

/// Reads a key as [`from_document`](super::rows::from_document) does, without a [`Document`] between: there are as
/// many keys as there are systems, and instances wait for them when they start.
fn key_of<'a>(document: &'a RawDocument, tenants: &mut Tenants<'a>) -> Result<Key> {
    let (mut digest, mut tenant, mut system, mut system_name) = (None, None, None, None);
    let (mut mark, mut revision, mut revoked_at) = (None, None, None);
    for member in document {
        let (name, value) = member.map_err(corrupt)?;
        match (name.as_str(), value) {
            ("_id", RawBsonRef::String(text)) => {
                let mut bytes = [0; 32];
                digest = hex::decode_to_slice(text, &mut bytes).is_ok().then_some(KeyDigest::from_bytes(bytes));
            }
            ("tenant", RawBsonRef::String(text)) => tenant = Some(tenants.get(text)?),
            ("system", RawBsonRef::String(text)) => system = Some(text.parse().map_err(|_| corrupt("no system's id"))?),
            ("systemName", RawBsonRef::String(text)) => system_name = Some(read(text)?),
            ("mark", RawBsonRef::String(text)) => mark = Some(read(text)?),
            ("revision", RawBsonRef::Int64(number)) => revision = u64::try_from(number).ok(),
            ("revokedAt", RawBsonRef::Int64(millis)) => revoked_at = Some(Timestamp::from_millis(millis)),
            ("revokedAt", RawBsonRef::Null) => {}
            ("revokedAt", _) => return Err(corrupt("a key that was revoked at no time")),
            _ => {}
        }
    }
    let key = (|| {
        Some(Key {
            digest: digest?,
            tenant: tenant?,
            system: system?,
            system_name: system_name?,
            mark: mark?,
            revision: revision?,
            revoked_at,
        })
    })();
    key.ok_or_else(|| corrupt("a key that lacks a member"))
}

fn listed_system_of(document: &RawDocument) -> Result<ListedSystem> {
    let time = |name| document.get_i64(name).map(Timestamp::from_millis).map_err(corrupt);
    Ok(ListedSystem {
        id: document.get_str("_id").map_err(corrupt)?.parse().map_err(|_| corrupt("no system's id"))?,
        folded_name: document.get_str("folded").map_err(corrupt)?.to_owned(),
        updated_at: time("updatedAt")?,
        created_at: time("createdAt")?,
    })
}

/// Reads what serde wrote as a text.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    let text: StrDeserializer<'a, ValueError> = text.into_deserializer();
    T::deserialize(text).map_err(corrupt)
}
