//! Reading and writing everything, for moves between stores.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;
use tokio::sync::mpsc;

use super::audit::head_of;
use super::errors::{TimedOut, corrupt, store_error};
use super::migrations;
use super::rows::{
    MARKER, SETTING, entry_from_bytes, entry_to_document, marker_id, number_of, number_to_bson, row_from_document,
    setting_id, to_bson, to_document,
};
use super::store::MongoStore;
use super::usage::{counts_of, series_id, summary_of};
use crate::domain::time::Timestamp;
use crate::domain::usage::{BucketCounts, Counts, KeySummary, Resolution, UsageSummary};
use crate::store::chunks::{MAX_CHUNKS_AHEAD, stream_of};
use crate::store::{Record, RecordKind, Records, Result, StoreError, TransferStore};

/// Documents per batch of a cursor, and per chunk.
const BATCH_SIZE: u32 = 2_000;
/// Limit on a call: many documents are written at once.
const LIMIT: Duration = Duration::from_secs(120);

#[async_trait]
impl TransferStore for MongoStore {
    async fn count_records(&self, kind: RecordKind) -> Result<u64> {
        let (collection, filter) = self.records(kind);
        limited(collection.count_documents(filter)).await
    }

    async fn read_records(&self, kind: RecordKind) -> Result<Records> {
        let (collection, filter) = self.records(kind);
        let mut find = collection.find(filter).batch_size(BATCH_SIZE);
        if kind == RecordKind::AuditEntries {
            let order = doc! { "tenant": 1, "number": 1 };
            find = find.sort(order).hint(Hint::Name(migrations::AUDIT_NUMBER.to_owned()));
        }
        let mut cursor = limited(find).await?;
        let name = collection.name().to_owned();
        let (chunks, taken) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let reading = async move {
            let mut chunk = Vec::new();
            while limited(cursor.advance()).await? {
                let record = match kind {
                    RecordKind::AuditEntries => entry_from_bytes(cursor.current()).map(Record::Entry),
                    kind => record_of(kind, &name, cursor.deserialize_current().map_err(store_error)?),
                };
                chunk.push(record?);
                if chunk.len() == BATCH_SIZE as usize && chunks.send(std::mem::take(&mut chunk)).await.is_err() {
                    return Ok(());
                }
            }
            // The receiver may have been dropped.
            let _ = chunks.send(chunk).await;
            Ok(())
        };
        Ok(stream_of(taken, tokio::spawn(reading)))
    }

    async fn write_records(&self, kind: RecordKind, records: Vec<Record>) -> Result<()> {
        let (collection, _) = self.records(kind);
        let documents =
            tokio::task::spawn_blocking(move || records.into_iter().map(document_of).collect::<Result<Vec<_>>>());
        let documents = documents.await.map_err(|error| StoreError::Unavailable(error.into()))??;
        limited(collection.insert_many(documents)).await.map(drop)
    }
}

impl MongoStore {
    /// The collection with the records of this kind, and a filter that finds them.
    fn records(&self, kind: RecordKind) -> (&Collection<Document>, Document) {
        let starting_with = |prefix: &str| doc! { "_id": { "$gte": prefix, "$lt": format!("{prefix}{}", char::MAX) } };
        match kind {
            RecordKind::Settings => (&self.meta, starting_with(SETTING)),
            RecordKind::Markers => (&self.meta, starting_with(MARKER)),
            RecordKind::Tenants => (&self.tenants, doc! {}),
            RecordKind::Operators => (&self.operators, doc! {}),
            RecordKind::Sessions => (&self.sessions, doc! {}),
            RecordKind::Tokens => (&self.tokens, doc! {}),
            RecordKind::Systems => (&self.systems, doc! {}),
            RecordKind::Keys => (&self.keys, doc! {}),
            RecordKind::AuditEntries => (&self.audit, doc! {}),
            // A head is created before the first entry, which may have failed to be committed.
            RecordKind::AuditHeads => (&self.audit_heads, doc! { "number": { "$gt": 0_i64 } }),
            RecordKind::Buckets => (&self.buckets, doc! {}),
            RecordKind::Usage => (&self.usage, doc! {}),
            RecordKind::UsageHours => (self.usage_series(Resolution::Hour), doc! {}),
            RecordKind::UsageDays => (self.usage_series(Resolution::Day), doc! {}),
        }
    }
}

async fn limited<T>(call: impl IntoFuture<Output = mongodb::error::Result<T>>) -> Result<T> {
    match tokio::time::timeout(LIMIT, call.into_future()).await {
        Ok(answer) => answer.map_err(store_error),
        Err(_) => Err(TimedOut::new("transfer").into()),
    }
}

fn record_of(kind: RecordKind, collection: &str, document: Document) -> Result<Record> {
    let text = |member| document.get_str(member).map_err(corrupt);
    let without =
        |prefix: &str| -> Result<String> { Ok(text("_id")?.strip_prefix(prefix).unwrap_or_default().to_owned()) };
    Ok(match kind {
        RecordKind::Settings => Record::Setting { name: without(SETTING)?, value: text("value")?.to_owned() },
        RecordKind::Markers => Record::Marker(without(MARKER)?),
        RecordKind::AuditHeads => {
            let tenant = text("_id")?.parse().map_err(|_| corrupt("a log head without a tenant"))?;
            Record::Head(tenant, head_of(document)?)
        }
        RecordKind::Buckets => {
            let arrival =
                document.get("arrival").and_then(number_of).ok_or_else(|| corrupt("a bucket without a time"))?;
            Record::Bucket(text("_id")?.to_owned(), Timestamp::from_millis(arrival))
        }
        RecordKind::Usage => {
            let tenant = text("tenant")?.parse().map_err(|_| corrupt("a use without a tenant"))?;
            Record::Usage(tenant, summary_of(&document)?)
        }
        RecordKind::UsageHours => series_of(&document, Resolution::Hour)?,
        RecordKind::UsageDays => series_of(&document, Resolution::Day)?,
        _ => Record::Row(row_from_document(collection, document)?),
    })
}

fn series_of(document: &Document, resolution: Resolution) -> Result<Record> {
    let malformed = || corrupt("a malformed series of use");
    let tenant = document.get_str("tenant").ok().and_then(|tenant| tenant.parse().ok()).ok_or_else(malformed)?;
    let (system, row) = document.get_str("_id").ok().and_then(|id| id.split_once('/')).ok_or_else(malformed)?;
    let (system, row) = (system.parse().map_err(|_| malformed())?, row.parse().map_err(|_| malformed())?);
    Ok(Record::Series { tenant, system, resolution, row, counts: counts_of(document).collect() })
}

fn document_of(record: Record) -> Result<Document> {
    Ok(match record {
        Record::Setting { name, value } => doc! { "_id": setting_id(&name), "value": value },
        Record::Marker(marker) => doc! { "_id": marker_id(&marker) },
        Record::Row(row) => to_document(&row)?,
        Record::Entry(entry) => entry_to_document(&entry)?,
        Record::Head(tenant, head) => {
            doc! { "_id": tenant.as_str(), "number": number_to_bson(head.number), "hash": head.hash.to_string() }
        }
        Record::Bucket(bucket, arrival) => doc! { "_id": bucket, "arrival": arrival.as_millis() },
        Record::Usage(tenant, UsageSummary { system, written_at, last_used_at, keys }) => {
            let mut document =
                doc! { "_id": to_bson(&system)?, "tenant": tenant.as_str(), "writtenAt": written_at.as_millis() };
            if let Some(at) = last_used_at {
                document.insert("lastUsedAt", at.as_millis());
            }
            let keys: Document = keys.into_iter().map(|(mark, key)| (mark.to_string(), summary_to_bson(key))).collect();
            document.insert("keys", keys);
            document
        }
        Record::Series { tenant, system, resolution: _, row, counts } => {
            let mut keys = Document::new();
            for BucketCounts { mark, bucket, counts: Counts { accepted, refused } } in counts {
                let counts = [("a", accepted), ("r", refused)].into_iter().filter(|(_, count)| *count > 0);
                let counts: Document = counts.map(|(name, count)| (name.to_owned(), number_to_bson(count))).collect();
                if let Bson::Document(buckets) = keys.entry(mark.to_string()).or_insert(Bson::Document(doc! {})) {
                    buckets.insert(bucket.to_string(), counts);
                }
            }
            let id = series_id(system, row);
            doc! { "_id": id, "tenant": tenant.as_str(), "row": i64::from(row), "keys": keys }
        }
    })
}

fn summary_to_bson(key: KeySummary) -> Bson {
    let mut members = doc! { "refusals": number_to_bson(key.refusals) };
    for (name, at) in [("used", key.last_used_at), ("refused", key.last_refused_at)] {
        if let Some(at) = at {
            members.insert(name, at.as_millis());
        }
    }
    Bson::Document(members)
}
