//! The feed: one change stream over the collections of rows and the audit log, whose events are assembled into changes.
//!
//! A change stream returns the majority-committed writes of a replica set in the order of its oplog
//! (<https://www.mongodb.com/docs/v6.0/changeStreams/>). The events of a transaction are consecutive and carry its id.
//! The audit entry, inserted last, is the last event of a batch.
//!
//! Keymark replaces whole documents, and writes rows other than leases only in transactions with an audit entry. Events
//! that show another pattern come from other clients. For an update in place, the server adds the document as it is now
//! (`updateLookup`), which is never older than the event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mongodb::Database;
use mongodb::bson::{
    Bson, Document, RawDocumentBuf, Timestamp, deserialize_from_slice, doc, serialize_to_raw_document_buf,
};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ResumeToken;
use mongodb::error::ErrorKind;
use mongodb::options::FullDocumentType;
use serde::Deserialize;
use tokio::time::Instant;

use super::collections::{AUDIT, KEYS, LEASES, OPERATORS, SESSIONS, SYSTEMS, TENANTS, TOKENS};
use super::errors::{TimedOut, corrupt, store_error};
use super::rows::{
    FORMAT, LENGTH, REQUESTS_ACK, entry_from_document, id_from_bson, row_from_document, stored_row, to_bson,
};
use super::store::MongoStore;
use crate::domain::audit::AuditEntry;
use crate::domain::changes::{Change, Position, StoredRow, Write};
use crate::domain::leases::{Incarnation, LogTime};
use crate::store::{Cause, Feed, FeedStore, Result, StoreError};

/// Maximum time for which the server holds a request while there are no events.
const MAX_AWAIT_TIME: Duration = Duration::from_secs(1);

/// Time limit for resuming a broken stream: longer than an election.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// Delay between two attempts to resume.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Error codes of a stream that cannot be resumed: InvalidResumeToken, ChangeStreamFatalError and
/// ChangeStreamHistoryLost (MongoDB 6.0, `src/mongo/base/error_codes.yml`).
const NOT_RESUMABLE: [i32; 3] = [260, 280, 286];

/// The members of an event that are used (<https://www.mongodb.com/docs/v6.0/reference/change-events/>). The driver's own
/// type requires members that only updates have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "_id")]
    id: ResumeToken,
    operation_type: String,
    /// The time of the commit, from the oplog: the same for all events of a transaction.
    cluster_time: Option<Timestamp>,
    ns: Option<Namespace>,
    /// Identifies the transaction together with [`txn_number`](Self::txn_number). Absent outside of a transaction.
    lsid: Option<Document>,
    txn_number: Option<i64>,
    document_key: Option<DocumentKey>,
    full_document: Option<Document>,
}

#[derive(Deserialize)]
struct Namespace {
    coll: Option<String>,
}

#[derive(Deserialize)]
struct DocumentKey {
    #[serde(rename = "_id")]
    id: Bson,
}

type Transaction = (Document, i64);

/// An open change stream.
struct Follower {
    database: Database,
    pipeline: Document,
    call_limit: Duration,
    stream: ChangeStream<Event>,
    /// The resume token of the last received event.
    token: Option<ResumeToken>,
    /// The change of a transaction whose last event is yet to come.
    pending: Option<(Transaction, Change)>,
    ready: VecDeque<Change>,
}

/// What an event contributes to a change.
enum Item {
    Write(Write),
    Foreign(StoredRow),
    Entry(Arc<AuditEntry>),
    Nothing,
}

#[async_trait]
impl FeedStore for MongoStore {
    async fn watch(&self, after: Option<&Position>, own: Option<&[Incarnation]>) -> Result<Feed> {
        let token = after.map(token_of).transpose()?;
        let (database, pipeline, call_limit) = (self.watched.clone(), pipeline(own)?, self.limits.call);
        let stream = open(&database, &pipeline, token.clone(), call_limit).await?;
        let (pending, ready) = (None, VecDeque::new());
        let follower = Follower { database, pipeline, call_limit, stream, token, pending, ready };
        Ok(futures::stream::try_unfold(
            follower,
            |mut follower| async move { Ok(Some((follower.next().await?, follower))) },
        )
        .boxed())
    }
}

/// Selects the events of the feed. If all of N instances received the leases of all, the database would deliver N² events
/// in each probe interval.
fn pipeline(own: Option<&[Incarnation]>) -> Result<Document> {
    let rows = [SYSTEMS, KEYS, OPERATORS, SESSIONS, TENANTS, TOKENS].map(Bson::from).to_vec();
    // Those that are archived are removed one by one.
    let entries = doc! { "ns.coll": AUDIT, "operationType": { "$ne": "delete" } };
    let ends = ["dropDatabase", "invalidate"].map(Bson::from).to_vec();
    let mut leases = doc! { "ns.coll": LEASES };
    if let Some(own) = own {
        let (put, written) = (["insert", "replace"], ["insert", "replace", "update", "delete"]);
        leases.insert(
            "$or",
            vec![
                doc! { "documentKey._id": { "$in": to_bson(&own)? } },
                doc! { format!("fullDocument.{REQUESTS_ACK}"): true },
                // Of release 0.1.
                doc! { "operationType": { "$in": &put[..] }, format!("fullDocument.{LENGTH}"): { "$exists": false } },
                // Of a newer release perhaps, beside which this one does not use its cache.
                doc! { format!("fullDocument.{FORMAT}"): { "$exists": true } },
                // The collection was dropped or renamed.
                doc! { "operationType": { "$nin": &written[..] } },
            ],
        );
    }
    let rows = doc! { "ns.coll": { "$in": rows } };
    Ok(doc! { "$match": { "$or": [rows, entries, { "operationType": { "$in": ends } }, leases] } })
}

async fn open(
    database: &Database,
    pipeline: &Document,
    token: Option<ResumeToken>,
    limit: Duration,
) -> Result<ChangeStream<Event>> {
    let resumes = token.is_some();
    let watch = database.watch().pipeline([pipeline.clone()]).full_document(FullDocumentType::UpdateLookup);
    let watch = watch.max_await_time(MAX_AWAIT_TIME).resume_after(token);
    let opened = tokio::time::timeout(limit, watch).await.map_err(|_| TimedOut::new("watch"))?;
    Ok(opened.map_err(|error| feed_error(error, resumes))?.with_type())
}

impl Follower {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            match self.next_event().await {
                Ok(Some(event)) => {
                    self.token = Some(event.id.clone());
                    self.assemble(event)?;
                }
                Ok(None) if self.stream.is_alive() => {}
                Ok(None) => return Err(corrupt("the change stream ended")),
                Err(StoreError::Unavailable(cause)) => self.resume(cause).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Event>> {
        let event = tokio::time::timeout(MAX_AWAIT_TIME + self.call_limit, self.stream.next_if_any());
        event.await.map_err(|_| TimedOut::new("watch"))?.map_err(|error| feed_error(error, true))
    }

    /// Resumes after the last received event once the database is available again, so that an election leaves no gap.
    async fn resume(&mut self, cause: Cause) -> Result<()> {
        let Some(token) = self.token.clone() else { return Err(StoreError::Unavailable(cause)) };
        let deadline = Instant::now() + RESUME_LIMIT;
        loop {
            match open(&self.database, &self.pipeline, Some(token.clone()), self.call_limit).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(StoreError::Unavailable(_)) if Instant::now() < deadline => tokio::time::sleep(RETRY_DELAY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds the event to the change that it belongs to, and that change to `ready` if it is complete.
    fn assemble(&mut self, event: Event) -> Result<()> {
        let position = position_of(&event.id)?;
        let at = event.cluster_time.map(log_time).ok_or_else(|| corrupt("an event without a cluster time"))?;
        let transaction = event.lsid.clone().zip(event.txn_number);
        if let Some((_, change)) = self.pending.take_if(|(pending, _)| transaction.as_ref() != Some(pending)) {
            self.ready.push_back(without_entry(change));
        }
        let pending = self.pending.take().map(|(_, change)| change);
        let (writes, foreign) = pending.map(|change| (change.writes, change.foreign)).unwrap_or_default();
        let mut change = Change { position, at, writes, foreign, entry: None };
        match item_of(event, transaction.is_some())? {
            Item::Write(write) => change.writes.push(write),
            Item::Foreign(row) => change.foreign.push(row),
            Item::Entry(entry) => change.entry = Some(entry),
            Item::Nothing => {}
        }
        match transaction {
            Some(transaction) if change.entry.is_none() => self.pending = Some((transaction, change)),
            _ => self.ready.push_back(change),
        }
        Ok(())
    }
}

/// Converts the writes of a transaction that ended without an audit entry: another client's.
fn without_entry(mut change: Change) -> Change {
    for write in std::mem::take(&mut change.writes) {
        match write {
            Write::Put(row) => change.foreign.push(StoredRow::Readable(row)),
            Write::Delete(_) => change.writes.push(write),
        }
    }
    change
}

fn item_of(event: Event, in_transaction: bool) -> Result<Item> {
    let collection = event.ns.and_then(|ns| ns.coll).unwrap_or_default();
    let operation = event.operation_type.as_str();
    let Some(id) = event.document_key.map(|key| key.id) else {
        return Err(corrupt(format!("`{operation}` of `{collection}` ended the change stream")));
    };
    let is_put = match operation {
        "insert" | "replace" => true,
        "update" => false,
        "delete" => {
            return Ok(id_from_bson(&collection, id)
                .ok()
                .flatten()
                .map_or(Item::Nothing, |id| Item::Write(Write::Delete(id))));
        }
        other => return Err(corrupt(format!("unknown event `{other}` of `{collection}`"))),
    };
    if collection == AUDIT || collection == LEASES {
        // A lease is valid as of the event that wrote it, and not as another client left it.
        let read = match event.full_document {
            Some(document) if is_put && collection == LEASES => {
                row_from_document(&collection, document).map(|row| Item::Write(Write::Put(row)))
            }
            Some(document) if operation == "insert" => {
                entry_from_document(document).map(|entry| Item::Entry(Arc::new(entry)))
            }
            _ => Err(corrupt("changed in place")),
        };
        return match read {
            Err(StoreError::Corrupt(cause)) => {
                tracing::warn!(collection, %id, %cause, "another client's write left out of the feed");
                Ok(Item::Nothing)
            }
            read => read,
        };
    }
    // The update of a document that is gone by now: its deletion follows.
    let Some(document) = event.full_document else { return Ok(Item::Nothing) };
    Ok(match stored_row(&collection, &id, row_from_document(&collection, document))? {
        Some(StoredRow::Readable(row)) if is_put && in_transaction => Item::Write(Write::Put(row)),
        Some(row) => Item::Foreign(row),
        None => Item::Nothing,
    })
}

/// Seconds in the upper 32 bits, the ordinal within the second in the lower: the order of the oplog.
fn log_time(time: Timestamp) -> LogTime {
    LogTime::new(u64::from(time.time) << 32 | u64::from(time.increment))
}

/// The inverse of [`log_time`].
pub(super) fn timestamp(time: LogTime) -> Timestamp {
    let [a, b, c, d, e, f, g, h] = time.get().to_be_bytes();
    Timestamp { time: u32::from_be_bytes([a, b, c, d]), increment: u32::from_be_bytes([e, f, g, h]) }
}

fn position_of(token: &ResumeToken) -> Result<Position> {
    let token = serialize_to_raw_document_buf(token).map_err(corrupt)?;
    Ok(Position::from_bytes(token.into_bytes()))
}

/// The inverse of [`position_of`]. Other bytes are no position of this feed.
fn token_of(position: &Position) -> Result<ResumeToken> {
    let well_formed =
        RawDocumentBuf::from_bytes(position.as_bytes().to_vec()).is_ok_and(|token| token.get_str("_data").is_ok());
    if !well_formed {
        return Err(StoreError::PositionTooOld);
    }
    deserialize_from_slice(position.as_bytes()).map_err(|_| StoreError::PositionTooOld)
}

fn feed_error(error: mongodb::error::Error, resumes: bool) -> StoreError {
    match *error.kind {
        ErrorKind::Command(ref refused) if resumes && NOT_RESUMABLE.contains(&refused.code) => {
            StoreError::PositionTooOld
        }
        _ => store_error(error),
    }
}
