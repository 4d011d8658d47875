//! Reading all that memory is built from: fast, and from no point in time before the call.
//!
//! A linearizable read first finds out what the time is: it is answered by a primary that is one still, so its
//! operation time is not before anything that was answered earlier. The scan reads what a majority has after that
//! time, which holds of each batch by itself, even of one that a primary gives after it was deposed.
//! (<https://www.mongodb.com/docs/v6.0/core/causal-consistency-read-write-concerns/>)

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use mongodb::bson::raw::RawBsonRef;
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use tokio::sync::mpsc;

use super::rows::{corrupt, row_from_document};
use super::{MongoStore, TimedOut, store_error};
use crate::domain::changes::Row;
use crate::domain::ids::TenantId;
use crate::domain::keys::{Key, KeyDigest, from_hex};
use crate::domain::time::Timestamp;
use crate::store::scan::{CHUNKS_AHEAD, stream_of};
use crate::store::{Result, Rows, StoreError};

/// Documents of a batch. The server ends a batch at 16 MiB, which are some 50 000 keys.
const ROWS_A_BATCH: u32 = 20_000;

const WHAT: &str = "scan_rows";

impl MongoStore {
    pub(super) async fn scan(&self) -> Result<Rows> {
        let mut session = self.bounded(WHAT, self.client.start_session().causal_consistency(true)).await?;
        // Which document it is does not matter, nor whether it is there.
        let now = self.meta_linearizable.find_one(doc! { "_id": "version" }).session(&mut session);
        self.bounded(WHAT, now.max_time(self.limits.call)).await?;
        if session.operation_time().is_none() {
            return Err(corrupt("a read that was answered without its operation time"));
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let scan = Scan { session, limit: self.limits.call, chunks: sender };
        let collections = [&self.keys, &self.operators, &self.sessions].map(Clone::clone);
        Ok(stream_of(chunks, tokio::spawn(scan.run(collections))))
    }
}

struct Scan {
    /// Every read of it is after the operation time that it knows.
    session: ClientSession,
    limit: Duration,
    chunks: mpsc::Sender<Vec<Row>>,
}

impl Scan {
    /// Sends all rows, until nobody takes them any more.
    async fn run(mut self, collections: [Collection<Document>; 3]) -> Result<()> {
        for collection in collections {
            self.read(&collection).await?;
        }
        Ok(())
    }

    /// The server's own limit of time would count all batches together, so there is none.
    async fn read(&mut self, collection: &Collection<Document>) -> Result<()> {
        let find = collection.find(doc! {}).batch_size(ROWS_A_BATCH).session(&mut self.session).batch();
        let mut cursor = in_time(self.limit, find).await?.map_err(store_error)?;
        let mut batches = cursor.stream(&mut self.session);
        let mut read = None;
        while let Some(batch) = in_time(self.limit, batches.next()).await? {
            let (batch, name) = (batch.map_err(store_error)?, collection.name().to_owned());
            // One batch is decoded while the next one is on its way.
            let reading = tokio::task::spawn_blocking(move || rows_of(&name, &batch));
            if let Some(before) = read.replace(reading)
                && self.chunks.send(joined(before).await?).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(last) = read {
            // Nobody may take it any more.
            let _ = self.chunks.send(joined(last).await?).await;
        }
        Ok(())
    }
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(|_| TimedOut::new(WHAT).into())
}

async fn joined(reading: tokio::task::JoinHandle<Result<Vec<Row>>>) -> Result<Vec<Row>> {
    reading.await.map_err(|error| StoreError::Unavailable(error.into()))?
}

fn rows_of(collection: &str, batch: &RawBatch) -> Result<Vec<Row>> {
    let documents = batch.doc_slices().map_err(store_error)?;
    let mut tenants = Tenants::default();
    let mut rows = Vec::with_capacity(ROWS_A_BATCH as usize);
    for document in documents {
        let document = document.map_err(corrupt)?.as_document().ok_or_else(|| corrupt("a batch of no documents"))?;
        rows.push(if collection == super::KEYS {
            Row::Key(key_of(document, &mut tenants)?)
        } else {
            row_from_document(collection, document.try_into().map_err(corrupt)?)?
        });
    }
    Ok(rows)
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
            ("_id", RawBsonRef::String(text)) => digest = from_hex(text).map(KeyDigest::from_bytes),
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

/// Reads what serde wrote as a text.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    let text: StrDeserializer<'a, ValueError> = text.into_deserializer();
    T::deserialize(text).map_err(corrupt)
}
