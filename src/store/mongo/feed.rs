//! The feed: one change stream over the collections of rows and the audit log, whose events are assembled into changes.
//!
//! A change stream returns the majority-committed writes of a replica set in the order of its oplog
//! (<https://www.mongodb.com/docs/v6.0/changeStreams/>). The events of a transaction are consecutive and carry its id.
//! The audit entry, inserted last, is the last event of a batch.

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
use serde::Deserialize;
use tokio::time::Instant;

use super::collections::{AUDIT, KEYS, LEASES, OPERATORS, SESSIONS, SYSTEMS};
use super::errors::{TimedOut, corrupt, store_error};
use super::rows::{entry_from_document, id_from_bson, row_from_document};
use super::store::MongoStore;
use crate::domain::changes::{Change, Position, Write};
use crate::domain::leases::LogTime;
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
    call_limit: Duration,
    stream: ChangeStream<Event>,
    /// The resume token of the last received event.
    token: Option<ResumeToken>,
    /// The writes of a transaction whose last event is yet to come.
    pending: Option<(Transaction, Vec<Write>)>,
}

#[async_trait]
impl FeedStore for MongoStore {
    async fn watch(&self, after: Option<&Position>) -> Result<Feed> {
        let token = after.map(token_of).transpose()?;
        let (database, call_limit) = (self.watched.clone(), self.limits.call);
        let stream = open(&database, token.clone(), call_limit).await?;
        let follower = Follower { database, call_limit, stream, token, pending: None };
        Ok(futures::stream::try_unfold(
            follower,
            |mut follower| async move { Ok(Some((follower.next().await?, follower))) },
        )
        .boxed())
    }
}

async fn open(database: &Database, token: Option<ResumeToken>, limit: Duration) -> Result<ChangeStream<Event>> {
    let resumes = token.is_some();
    let watched = [SYSTEMS, KEYS, OPERATORS, SESSIONS, LEASES, AUDIT].map(Bson::from).to_vec();
    let ends = ["dropDatabase", "invalidate"].map(Bson::from).to_vec();
    let pipeline = doc! { "$match": { "$or": [
        { "ns.coll": { "$in": watched } },
        { "operationType": { "$in": ends } },
    ] } };
    let watch = database.watch().pipeline([pipeline]).max_await_time(MAX_AWAIT_TIME).resume_after(token);
    let opened = tokio::time::timeout(limit, watch).await.map_err(|_| TimedOut::new("watch"))?;
    Ok(opened.map_err(|error| feed_error(error, resumes))?.with_type())
}

impl Follower {
    async fn next(&mut self) -> Result<Change> {
        loop {
            match self.next_event().await {
                Ok(Some(event)) => {
                    self.token = Some(event.id.clone());
                    if let Some(change) = self.assemble(event)? {
                        return Ok(change);
                    }
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
            match open(&self.database, Some(token.clone()), self.call_limit).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(StoreError::Unavailable(_)) if Instant::now() < deadline => tokio::time::sleep(RETRY_DELAY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds the event to the pending change. Returns the change if the event completes it.
    fn assemble(&mut self, event: Event) -> Result<Option<Change>> {
        let collection = event.ns.and_then(|ns| ns.coll).unwrap_or_default();
        let transaction = event.lsid.zip(event.txn_number);
        let (write, entry) = match (event.operation_type.as_str(), event.full_document, event.document_key) {
            ("insert", Some(document), _) if collection == AUDIT => (None, Some(entry_from_document(document)?)),
            ("insert" | "replace", Some(document), _) if collection != AUDIT => {
                (Some(Write::Put(row_from_document(&collection, document)?)), None)
            }
            ("delete", _, Some(key)) => (id_from_bson(&collection, key.id)?.map(Write::Delete), None),
            // Keymark never updates a document in place, nor changes its log: another client did. The event lacks the
            // resulting document, so followers have to load everything anew.
            ("update" | "insert" | "replace", ..) => return Err(StoreError::PositionTooOld),
            (other, ..) => return Err(corrupt(format!("`{other}` of `{collection}` ended the change stream"))),
        };
        let (pending, mut writes) = match self.pending.take() {
            Some((pending, writes)) if transaction.as_ref() == Some(&pending) => (transaction, writes),
            Some((_, writes)) if !writes.is_empty() => {
                return Err(corrupt(format!("a transaction of {} writes without an audit entry", writes.len())));
            }
            _ => (transaction, Vec::new()),
        };
        writes.extend(write);
        if let (Some(transaction), None) = (pending, &entry) {
            self.pending = Some((transaction, writes));
            return Ok(None);
        }
        let at = event.cluster_time.map(log_time).ok_or_else(|| corrupt("an event without a cluster time"))?;
        Ok(Some(Change { position: position_of(&event.id)?, at, writes, entry: entry.map(Arc::new) }))
    }
}

/// Seconds in the upper 32 bits, the ordinal within the second in the lower: the order of the oplog.
fn log_time(time: Timestamp) -> LogTime {
    LogTime::new(u64::from(time.time) << 32 | u64::from(time.increment))
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
