//! The table of committed changes that the feed reads: its rows, appending, and the last sequence.

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::tables::{FEED, encode};
use crate::domain::audit::AuditEntry;
use crate::domain::changes::Write;

/// A row of [`FEED`]. The audit entry is stored in the log: the row refers to it by tenant and number.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredChange {
    pub(super) writes: Vec<Write>,
    pub(super) entry: Option<(String, u64)>,
}

/// Appends a change, and removes the one that is `kept` older.
pub(super) fn append(
    txn: &WriteTransaction,
    writes: &[Write],
    entry: Option<&AuditEntry>,
    kept: u64,
) -> Result<(), redb::Error> {
    let sequence = last_written(txn)? + 1;
    let change = StoredChange { writes: writes.to_vec(), entry: entry.map(|e| (e.tenant.to_string(), e.number)) };
    let mut feed = txn.open_table(FEED)?;
    feed.insert(sequence, encode(&change).as_slice())?;
    if let Some(old) = sequence.checked_sub(kept) {
        feed.remove(old)?;
    }
    Ok(())
}

/// The sequence of the last change in this transaction, 0 if there is none.
pub(super) fn last_written(txn: &WriteTransaction) -> Result<u64, redb::Error> {
    Ok(txn.open_table(FEED)?.last()?.map_or(0, |(sequence, _)| sequence.value()))
}

/// The sequence of the last committed change, 0 if there is none.
pub(super) fn last_sequence(database: &Database) -> Result<u64, redb::Error> {
    let feed = database.begin_read()?.open_table(FEED)?;
    Ok(feed.last()?.map_or(0, |(sequence, _)| sequence.value()))
}
