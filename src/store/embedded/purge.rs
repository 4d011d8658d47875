//! Removing rows that are past their retention.

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::changes;
use super::rows::{Storage, get, remove};
use super::store::EmbeddedStore;
use super::tables::{BUCKETS, KEYS, REVOKED_KEYS, SESSIONS, decode};
use crate::domain::changes::{Row, Write};
use crate::domain::sessions::Session;
use crate::domain::time::Timestamp;
use crate::store::{PurgeStore, Purged, Result};

#[async_trait]
impl PurgeStore for EmbeddedStore {
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        let kept = self.max_feed_changes;
        self.writer.submit(move |txn| purge(txn, now, revoked_before, kept).map(Ok)).await
    }
}

fn purge(txn: &WriteTransaction, now: Timestamp, revoked_before: Timestamp, max_feed_changes: u64) -> Storage<Purged> {
    let mut removed = Vec::new();
    let mut purged = Purged::default();
    for row in txn.open_table(REVOKED_KEYS)?.range(..(revoked_before.as_millis(), &[0; 32]))? {
        removed.extend(get(txn, KEYS, row?.0.value().1)?.map(Row::Key));
        purged.keys += 1;
    }
    for row in txn.open_table(SESSIONS)?.iter()? {
        match decode::<Session>(row?.1.value()) {
            Ok(session) if session.expires_at < now => {
                removed.push(Row::Session(session));
                purged.sessions += 1;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "unreadable session not purged"),
        }
    }
    for row in &removed {
        remove(txn, row)?;
    }
    // A bucket whose arrival time has passed is full, like one that was never used.
    txn.open_table(BUCKETS)?.retain(|_, arrival| arrival > now.as_millis())?;
    if !removed.is_empty() {
        let writes: Vec<Write> = removed.iter().map(|row| Write::Delete(row.id())).collect();
        changes::append(txn, &writes, None, max_feed_changes)?;
    }
    Ok(purged)
}
