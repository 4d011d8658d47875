//! The feed: one change stream over the collections that followers care for, put together to whole changes.
//!
//! A change stream gives a replica set's majority-committed writes in the one order of its oplog
//! (<https://www.mongodb.com/docs/v6.0/changeStreams/>). The events of a transaction come one after the other and
//! name it; the audit entry, its last statement, comes last.

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

/// How long the server may hold a request for more while nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How long a stream that broke is tried to be taken up again, and how long to wait between two tries. Longer than an
/// election.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Codes of a stream that cannot go on from where it was: InvalidResumeToken, ChangeStreamFatalError and
/// ChangeStreamHistoryLost (MongoDB 6.0, `src/mongo/base/error_codes.yml`).
const LOST: [i32; 3] = [260, 280, 286];

/// As much of an event as is needed (<https://www.mongodb.com/docs/v6.0/reference/change-events/>). The driver's own
/// type demands members that no other event than an update has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "_id")]
    id: ResumeToken,
    operation_type: String,
    /// When it was committed: its place in the oplog, the same for all events of a transaction.
    cluster_time: Option<Timestamp>,
    ns: Option<Namespace>,
    /// With [`txn_number`](Self::txn_number): the transaction. Absent outside of one.
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

/// A stream, and the writes of the transaction that has begun and not ended yet.
struct Follower {
    database: Database,
    call_limit: Duration,
    stream: ChangeStream<Event>,
    /// Of the last event that came.
    token: Option<ResumeToken>,
    begun: Option<(Transaction, Vec<Write>)>,
}

#[async_trait]
impl FeedStore for MongoStore {
    async fn watch(&self, after: Option<&Position>) -> Result<Feed> {
        let token = after.map(token_of).transpose()?;
        let (database, call_limit) = (self.followed.clone(), self.limits.call);
        let stream = open(&database, token.clone(), call_limit).await?;
        let follower = Follower { database, call_limit, stream, token, begun: None };
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
    let watch = database.watch().pipeline([pipeline]).max_await_time(IDLE).resume_after(token);
    let opened = tokio::time::timeout(limit, watch).await.map_err(|_| TimedOut::new("watch"))?;
    Ok(opened.map_err(|error| feed_error(error, resumes))?.with_type())
}

impl Follower {
    async fn next(&mut self) -> Result<Change> {
        loop {
            match self.next_event().await {
                Ok(Some(event)) => {
                    self.token = Some(event.id.clone());
                    if let Some(change) = self.take(event)? {
                        return Ok(change);
                    }
                }
                Ok(None) if self.stream.is_alive() => {}
                Ok(None) => return Err(corrupt("the change stream ended")),
                Err(StoreError::Unavailable(cause)) => self.take_up(cause).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Event>> {
        let event = tokio::time::timeout(IDLE + self.call_limit, self.stream.next_if_any());
        event.await.map_err(|_| TimedOut::new("watch"))?.map_err(|error| feed_error(error, true))
    }

    /// Goes on after the last event that came, as soon as the database answers again: an election is no gap.
    async fn take_up(&mut self, cause: Cause) -> Result<()> {
        let Some(token) = self.token.clone() else { return Err(StoreError::Unavailable(cause)) };
        let until = Instant::now() + TAKEN_UP_WITHIN;
        loop {
            match open(&self.database, Some(token.clone()), self.call_limit).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(StoreError::Unavailable(_)) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the change that this event ends, if it ends one.
    fn take(&mut self, event: Event) -> Result<Option<Change>> {
        let collection = event.ns.and_then(|ns| ns.coll).unwrap_or_default();
        let transaction = event.lsid.zip(event.txn_number);
        let (write, entry) = match (event.operation_type.as_str(), event.full_document, event.document_key) {
            ("insert", Some(document), _) if collection == AUDIT => (None, Some(entry_from_document(document)?)),
            ("insert" | "replace", Some(document), _) if collection != AUDIT => {
                (Some(Write::Put(row_from_document(&collection, document)?)), None)
            }
            ("delete", _, Some(key)) => (id_from_bson(&collection, key.id)?.map(Write::Delete), None),
            // Keymark never patches a document, nor changes its log: somebody else did, and what became of the
            // document is not told. Followers have to look for themselves.
            ("update" | "insert" | "replace", ..) => return Err(StoreError::PositionTooOld),
            (other, ..) => return Err(corrupt(format!("`{other}` of `{collection}` ended the change stream"))),
        };
        let (begun, mut writes) = match self.begun.take() {
            Some((begun, writes)) if transaction.as_ref() == Some(&begun) => (transaction, writes),
            Some((_, writes)) if !writes.is_empty() => {
                return Err(corrupt(format!("a transaction of {} writes without an audit entry", writes.len())));
            }
            _ => (transaction, Vec::new()),
        };
        writes.extend(write);
        if let (Some(transaction), None) = (begun, &entry) {
            self.begun = Some((transaction, writes));
            return Ok(None);
        }
        let at = event.cluster_time.map(log_time).ok_or_else(|| corrupt("an event without its time"))?;
        Ok(Some(Change { position: position_of(&event.id)?, at, writes, entry }))
    }
}

/// Seconds above, and below them which one of the second's operations it is: ordered as the oplog is.
fn log_time(time: Timestamp) -> LogTime {
    LogTime::new(u64::from(time.time) << 32 | u64::from(time.increment))
}

fn position_of(token: &ResumeToken) -> Result<Position> {
    let token = serialize_to_raw_document_buf(token).map_err(corrupt)?;
    Ok(Position::from_bytes(token.into_bytes()))
}

/// Reads what [`position_of`] wrote. Bytes of any other kind are no place of this feed, and never will be.
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
        ErrorKind::Command(ref refused) if resumes && LOST.contains(&refused.code) => StoreError::PositionTooOld,
        _ => store_error(error),
    }
}
