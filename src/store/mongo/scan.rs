//! Scans that the in-memory cache is built from: fast, and never older than the call.
//!
//! A scan reads majority-committed data in a session that starts with a write (see `current_session`). This holds for each batch by itself, even for one from a primary that has been deposed meanwhile.
//! (<https://www.mongodb.com/docs/v6.0/core/causal-consistency-read-write-concerns/>)

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mongodb::bson::raw::RawBsonRef;
use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::{FindOptions, Hint};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use tokio::sync::mpsc;

use super::audit::head_of;
use super::collections::{KEYS, OPERATORS, SESSIONS, TENANTS, TOKENS};
use super::errors::{TimedOut, corrupt, store_error};
use super::migrations;
use super::rows::{
    EXTERNAL_ID, FOLDED_DESCRIPTION, FOLDED_EXTERNAL_ID, FORMAT, check_format_number, from_document, row_from_document,
    stored_row,
};
use super::store::MongoStore;
use crate::domain::changes::{Row, StoredRow};
use crate::domain::ids::TenantId;
use crate::domain::keys::{Key, KeyDigest, KeyRole};
use crate::domain::system_lists::{CurrentKeyFacts, KeyFacts, ListedSystem, SystemFacts};
use crate::domain::time::Timestamp;
use crate::store::chunks::{MAX_CHUNKS_AHEAD, stream_of};
use crate::store::errors::skip_unreadable;
use crate::store::{ListedSystems, Result, Rows, ScanStore, StoreError};

/// Documents per batch. The server limits a batch to 16 MiB, about 50 000 keys.
const BATCH_SIZE: u32 = 4_000;

const CALL: &str = "scan";

#[async_trait]
impl ScanStore for MongoStore {
    async fn scan_rows(&self) -> Result<Rows> {
        let session = self.start_current_session_in(&self.reserved, CALL).await?;
        let mut scan = Scan { session, limit: self.limits.call };
        let collections = [KEYS, OPERATORS, SESSIONS, TENANTS, TOKENS].map(|name| self.reserved.collection(name));
        let (chunks, taken) = mpsc::channel(MAX_CHUNKS_AHEAD);
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

    // The head is read in the session, so that it is not older than the linearizable read, and before the systems.
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        let mut session = self.start_current_session(CALL).await?;
        let head = self.audit_heads.find_one(doc! { "_id": tenant.as_str() }).session(&mut session);
        let head = self.bounded(CALL, head.max_time(self.limits.call)).await?;
        let number = head.map(head_of).transpose()?.unwrap_or_default().number;
        // Roughly the order of ids, which begin with the time of creation.
        let options = FindOptions::builder()
            .projection(listed_members())
            .hint(Hint::Name(migrations::SYSTEMS_CREATED.to_owned()))
            .build();
        let (mut scan, systems) = (Scan { session, limit: self.limits.call }, self.systems.clone());
        let filter = doc! { "tenant": tenant.as_str() };
        let (chunks, taken) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let reading = async move { scan.read(&systems, filter, options, &chunks, listed_systems_of).await };
        Ok((number, stream_of(taken, tokio::spawn(reading))))
    }
}

struct Scan {
    /// Causally consistent: its reads are not before its operation time.
    session: ClientSession,
    limit: Duration,
}

impl Scan {
    /// Sends the rows found until the receiver is dropped. Sets no `maxTimeMS`, which would count all batches together.
    async fn read<T: Send + 'static>(
        &mut self,
        collection: &Collection<Document>,
        filter: Document,
        options: FindOptions,
        chunks: &mpsc::Sender<Vec<T>>,
        rows_of: impl Fn(&RawBatch) -> Result<Vec<T>> + Clone + Send + 'static,
    ) -> Result<()> {
        let find = collection.find(filter).with_options(options).batch_size(BATCH_SIZE);
        let find = find.session(&mut self.session).batch();
        let mut cursor = bounded(self.limit, find).await?.map_err(store_error)?;
        let mut batches = cursor.stream(&mut self.session);
        let mut read = None;
        while let Some(batch) = bounded(self.limit, batches.next()).await? {
            let (batch, rows_of) = (batch.map_err(store_error)?, rows_of.clone());
            // One batch is decoded while the next one is being fetched.
            let reading = tokio::task::spawn_blocking(move || rows_of(&batch));
            if let Some(before) = read.replace(reading)
                && chunks.send(joined(before).await?).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(last) = read {
            // The receiver may have been dropped.
            let _ = chunks.send(joined(last).await?).await;
        }
        Ok(())
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(|_| TimedOut::new(CALL).into())
}

async fn joined<T>(reading: tokio::task::JoinHandle<Result<Vec<T>>>) -> Result<Vec<T>> {
    reading.await.map_err(|error| StoreError::Unavailable(error.into()))?
}

fn rows_of(collection: &str, batch: &RawBatch) -> Result<Vec<StoredRow>> {
    let mut tenants = Tenants::default();
    let mut rows = Vec::with_capacity(BATCH_SIZE as usize);
    for document in documents_of(batch)? {
        let document = document?;
        let row = if collection == KEYS {
            key_of(document, &mut tenants).map(Row::Key)
        } else {
            document.try_into().map_err(corrupt).and_then(|document| row_from_document(collection, document))
        };
        rows.extend(match row {
            Ok(row) => Some(StoredRow::Readable(row)),
            unreadable => stored_row(collection, &id_of(document), unreadable)?,
        });
    }
    Ok(rows)
}

fn listed_systems_of(batch: &RawBatch) -> Result<Vec<ListedSystem>> {
    documents_of(batch)?
        .filter_map(|document| skip_unreadable(document.and_then(listed_system_of)).transpose())
        .collect()
}

fn id_of(document: &RawDocument) -> Bson {
    let id = document.get("_id").ok().flatten();
    id.and_then(|id| id.try_into().ok()).unwrap_or(Bson::Null)
}

fn documents_of(batch: &RawBatch) -> Result<impl Iterator<Item = Result<&RawDocument>>> {
    let documents = batch.doc_slices().map_err(store_error)?;
    Ok(documents.into_iter().map(|document| {
        document.map_err(corrupt)?.as_document().ok_or_else(|| corrupt("a batch with something other than documents"))
    }))
}

/// The tenant ids of a batch, each allocated once.
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

/// Reads a key as [`from_document`] does, but without an intermediate [`Document`]: there are
/// as many keys as systems, and an instance waits for them when it starts.
fn key_of<'a>(document: &'a RawDocument, tenants: &mut Tenants<'a>) -> Result<Key> {
    let (mut digest, mut tenant, mut system, mut system_name) = (None, None, None, None);
    let mut external_id = None;
    let (mut mark, mut revision, mut revoked_at, mut end, mut secret) = (None, None, None, None, None);
    for member in document {
        let (name, value) = member.map_err(corrupt)?;
        match (name.as_str(), value) {
            ("_id", RawBsonRef::String(text)) => {
                let mut bytes = [0; 32];
                digest = hex::decode_to_slice(text, &mut bytes).is_ok().then_some(KeyDigest::from_bytes(bytes));
            }
            ("tenant", RawBsonRef::String(text)) => tenant = Some(tenants.get(text)?),
            ("system", RawBsonRef::String(text)) => {
                system = Some(text.parse().map_err(|_| corrupt("a malformed system id"))?)
            }
            ("systemName", RawBsonRef::String(text)) => system_name = Some(read(text)?),
            (EXTERNAL_ID, RawBsonRef::String(text)) => external_id = Some(read(text)?),
            (EXTERNAL_ID, _) => return Err(corrupt("a malformed external id")),
            ("mark", RawBsonRef::String(text)) => mark = Some(read(text)?),
            ("revision", RawBsonRef::Int64(number)) => revision = u64::try_from(number).ok(),
            ("revokedAt", RawBsonRef::Int64(millis)) => revoked_at = Some(Timestamp::from_millis(millis)),
            ("revokedAt", RawBsonRef::Null) => {}
            ("secret", RawBsonRef::String(text)) => secret = Some(read(text)?),
            ("secret", _) => return Err(corrupt("a malformed fingerprint")),
            ("end", RawBsonRef::String(text)) => end = Some(read(text)?),
            // Few keys are limited.
            (FORMAT | "role" | "expiresAt" | "suspendedAt" | "warnedDays" | "end", _) => {
                return from_document(document.try_into().map_err(corrupt)?);
            }
            ("revokedAt", _) => return Err(corrupt("a malformed revocation time")),
            _ => {}
        }
    }
    let key = (|| {
        Some(Key {
            digest: digest?,
            tenant: tenant?,
            system: system?,
            system_name: system_name?,
            external_id,
            mark: mark?,
            revision: revision?,
            revoked_at,
            end,
            secret,
            role: KeyRole::Current,
            expires_at: None,
            suspended_at: None,
            warned_days: None,
        })
    })();
    key.ok_or_else(|| corrupt("a key without a required member"))
}

fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

/// The members of a system that [`listed_system_of`] reads.
fn listed_members() -> Document {
    let mut members = doc! { FORMAT: 1, "folded": 1, FOLDED_DESCRIPTION: 1, "updatedAt": 1, "createdAt": 1 };
    members.extend(doc! { FOLDED_EXTERNAL_ID: 1, "suspended.at": 1 });
    for key in ["key", "retiring"] {
        for member in ["mark", "generatedAt", "generatedBy.id", "expiresAt"] {
            members.insert(format!("{key}.{member}"), 1);
        }
    }
    members
}

fn listed_system_of(document: &RawDocument) -> Result<ListedSystem> {
    if let Some(format) = document.get(FORMAT).map_err(corrupt)? {
        check_format_number(integer(format))?;
    }
    let time = |name| document.get_i64(name).map(Timestamp::from_millis).map_err(corrupt);
    let updated_at = time("updatedAt")?;
    let text = |name| Ok::<_, StoreError>(member(document, name, RawBsonRef::as_str)?.unwrap_or_default().to_owned());
    let key = |name| member(document, name, RawBsonRef::as_document);
    let facts = SystemFacts {
        updated_at,
        created_at: time("createdAt")?,
        is_suspended: key("suspended")?.is_some(),
        current: key("key")?.map(|key| current_key_of(key, updated_at)).transpose()?,
        retiring: key("retiring")?.map(key_facts_of).transpose()?,
    };
    Ok(ListedSystem {
        id: document.get_str("_id").map_err(corrupt)?.parse().map_err(|_| corrupt("a malformed system id"))?,
        folded_name: document.get_str("folded").map_err(corrupt)?.to_owned(),
        folded_description: text(FOLDED_DESCRIPTION)?,
        folded_external_id: text(FOLDED_EXTERNAL_ID)?,
        facts,
    })
}

fn current_key_of(key: &RawDocument, updated_at: Timestamp) -> Result<CurrentKeyFacts> {
    let time = |name| member(key, name, integer).map(|millis| millis.map(Timestamp::from_millis));
    Ok(CurrentKeyFacts {
        key: key_facts_of(key)?,
        generated_at: time("generatedAt")?.unwrap_or(updated_at),
        expires_at: time("expiresAt")?,
    })
}

fn key_facts_of(key: &RawDocument) -> Result<KeyFacts> {
    let by = member(key, "generatedBy", RawBsonRef::as_document)?;
    let operator = by.map(|by| member(by, "id", RawBsonRef::as_str)).transpose()?.flatten();
    Ok(KeyFacts { mark: read(key.get_str("mark").map_err(corrupt)?)?, generated_by: operator.map(read).transpose()? })
}

/// The member of this type; `None` if it is missing or null.
fn member<'a, T>(
    document: &'a RawDocument,
    name: &str,
    convert: impl Fn(RawBsonRef<'a>) -> Option<T>,
) -> Result<Option<T>> {
    match document.get(name).map_err(corrupt)? {
        None | Some(RawBsonRef::Null) => Ok(None),
        Some(value) => convert(value).map(Some).ok_or_else(|| corrupt("a member of a system has another type")),
    }
}

/// Deserializes a value that serde represents as a string.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    let text: StrDeserializer<'a, ValueError> = text.into_deserializer();
    T::deserialize(text).map_err(corrupt)
}
