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
        let kept = self.feed_kept;
        self.writer.submit(move |txn| purge(txn, now, revoked_before, kept).map(Ok)).await
    }
}

fn purge(txn: &WriteTransaction, now: Timestamp, revoked_before: Timestamp, feed_kept: u64) -> Storage<Purged> {
    let mut gone = Vec::new();
    let mut purged = Purged::default();
    for row in txn.open_table(REVOKED_KEYS)?.range(..(revoked_before.as_millis(), &[0; 32]))? {
        gone.extend(get(txn, KEYS, row?.0.value().1)?.map(Row::Key));
        purged.keys += 1;
    }
    for row in txn.open_table(SESSIONS)?.iter()? {
        match decode::<Session>(row?.1.value()) {
            Ok(session) if session.expires_at < now => {
                gone.push(Row::Session(session));
                purged.sessions += 1;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "unreadable session not purged"),
        }
    }
    for row in &gone {
        remove(txn, row)?;
    }
    // A bucket whose arrival time has passed is full, as one that was never used is.
    txn.open_table(BUCKETS)?.retain(|_, arrival| arrival > now.as_millis())?;
    if !gone.is_empty() {
        let writes: Vec<Write> = gone.iter().map(|row| Write::Delete(row.id())).collect();
        changes::append(txn, &writes, None, feed_kept)?;
    }
    Ok(purged)
}
