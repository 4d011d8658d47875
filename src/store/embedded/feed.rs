//! The feed: committed changes by sequence number. The file keeps the most recent ones.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use redb::{ReadableDatabase, ReadableTable};

use super::changes::StoredChange;
use super::errors::storage;
use super::store::EmbeddedStore;
use super::tables::{AUDIT, FEED, decode};
use super::writer::Handle;
use crate::domain::changes::{Change, Position};
use crate::domain::leases::{Incarnation, LogTime};
use crate::store::{Feed, FeedStore, Result, StoreError};

/// Maximum number of changes that one read returns.
const MAX_CHANGES_PER_READ: usize = 128;

#[async_trait]
impl FeedStore for EmbeddedStore {
    async fn watch(&self, after: Option<&Position>, _own: Option<&[Incarnation]>) -> Result<Feed> {
        let handle = &self.writer.handle;
        let mut last = handle.subscribe();
        let after = match after {
            None => *last.borrow_and_update(),
            Some(position) => sequence_of(position)?,
        };
        let handle = Arc::clone(handle);
        check(&handle, after)?;
        let start = Follower { handle, last, after, ready: Vec::new().into_iter() };
        Ok(Box::pin(stream::unfold(Some(start), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Ok(change) => Some((Ok(change), Some(follower))),
                Err(Some(error)) => Some((Err(error), None)),
                Err(None) => None,
            }
        })))
    }
}

struct Follower {
    handle: Arc<Handle>,
    last: tokio::sync::watch::Receiver<u64>,
    /// Sequence of the last change that was read.
    after: u64,
    ready: std::vec::IntoIter<Change>,
}

impl Follower {
    /// Returns `Err(None)` if the store was closed.
    async fn next(&mut self) -> Result<Change, Option<StoreError>> {
        loop {
            if let Some(change) = self.ready.next() {
                return Ok(change);
            }
            let changes = read(&self.handle, self.after)?;
            match changes.last() {
                Some(newest) => {
                    self.after = sequence_of(&newest.position)?;
                    self.ready = changes.into_iter();
                }
                None => self.last.changed().await.map_err(|_| None)?,
            }
        }
    }
}

fn read(handle: &Handle, after: u64) -> Result<Vec<Change>> {
    check(handle, after)?;
    let txn = handle.read()?.begin_read().map_err(storage)?;
    let feed = txn.open_table(FEED).map_err(storage)?;
    let audit = txn.open_table(AUDIT).map_err(storage)?;
    let rows = feed.range((Bound::Excluded(after), Bound::Unbounded)).map_err(storage)?;
    rows.take(MAX_CHANGES_PER_READ)
        .map(|row| {
            let (sequence, bytes) = row.map_err(storage)?;
            let stored: StoredChange = decode(bytes.value())?;
            let entry = match stored.entry {
                None => None,
                Some((tenant, number)) => {
                    let bytes = audit.get((tenant.as_str(), number)).map_err(storage)?;
                    let bytes =
                        bytes.ok_or_else(|| StoreError::Corrupt("the feed refers to a missing audit entry".into()))?;
                    Some(decode(bytes.value())?)
                }
            };
            let sequence = sequence.value();
            let at = LogTime::new(sequence);
            let (writes, foreign) = (stored.writes, Vec::new());
            Ok(Change { position: position_of(sequence), at, writes, foreign, entry: entry.map(Arc::new) })
        })
        .collect()
}

/// Checks that the feed holds every change after `after`, and that `after` is not in the future.
fn check(handle: &Handle, after: u64) -> Result<()> {
    let txn = handle.read()?.begin_read().map_err(storage)?;
    let feed = txn.open_table(FEED).map_err(storage)?;
    let oldest = feed.first().map_err(storage)?.map_or(1, |(sequence, _)| sequence.value());
    let newest = feed.last().map_err(storage)?.map_or(0, |(sequence, _)| sequence.value());
    if after + 1 < oldest || after > newest { Err(StoreError::PositionTooOld) } else { Ok(()) }
}

fn position_of(sequence: u64) -> Position {
    Position::from_bytes(sequence.to_be_bytes().to_vec())
}

fn sequence_of(position: &Position) -> Result<u64> {
    let bytes = position.as_bytes().try_into().map_err(|_| StoreError::PositionTooOld)?;
    // `u64::MAX` leaves no room for a change after it.
    Ok(u64::from_be_bytes(bytes)).map(|sequence| sequence.min(u64::MAX - 1))
}
