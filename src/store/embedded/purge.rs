//! Removing rows that are past their retention.

use std::ops::Bound;

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::changes;
use super::errors::storage;
use super::rows::{Storage, find, remove, skip_corrupted};
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::subjects::subjects_of;
use super::tables::{
    AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_TIMES, BUCKETS, ENTRIES_PER_BLOCK, REVOKED_KEYS, SESSIONS, decode,
};
use crate::domain::audit::AuditEntry;
use crate::domain::changes::{RowId, Write};
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::keys::KeyDigest;
use crate::domain::sessions::Session;
use crate::domain::time::Timestamp;
use crate::store::{PurgeStore, Purged, Result};

/// Maximum number of rows that one transaction removes, so that none takes long.
const MAX_REMOVALS: usize = 500;

#[async_trait]
impl PurgeStore for EmbeddedStore {
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        let keys = self.read_blocking(move |snapshot| snapshot.keys_revoked_before(revoked_before)).await?;
        let sessions = self.read_blocking(move |snapshot| snapshot.sessions_ended_before(now)).await?;
        let purged = Purged { keys: self.remove_all(keys).await?, sessions: self.remove_all(sessions).await? };
        // A bucket whose arrival time has passed is full, like one that was never used.
        let remove_full = move |txn: &WriteTransaction| {
            txn.open_table(BUCKETS)?.retain(|_, arrival| arrival > now.as_millis())?;
            Ok(Ok(()))
        };
        self.writer.submit(remove_full).await?;
        Ok(purged)
    }

    async fn purge_sessions(&self, operator: OperatorId, password_version: u64) -> Result<u64> {
        let mut sessions = self.read_blocking(move |snapshot| snapshot.list_sessions(operator)).await?;
        sessions.retain(|session| session.password_version < password_version);
        self.remove_all(sessions.into_iter().map(|session| RowId::Session(session.id)).collect()).await
    }

    async fn purge_audit(&self, tenant: &TenantId, last: u64) -> Result<u64> {
        let mut removed = 0;
        loop {
            let tenant = tenant.clone();
            let count = self.writer.submit(move |txn| remove_entries(txn, &tenant, last)).await?;
            removed += count;
            if count < MAX_REMOVALS as u64 {
                return Ok(removed);
            }
        }
    }
}

impl EmbeddedStore {
    /// Removes rows, as far as they still exist, at most [`MAX_REMOVALS`] at a time. They must be rows that never change
    /// any more.
    async fn remove_all(&self, rows: Vec<RowId>) -> Result<u64> {
        let kept = self.max_feed_changes;
        let mut removed = 0;
        for rows in rows.chunks(MAX_REMOVALS) {
            let rows = rows.to_vec();
            removed += self.writer.submit(move |txn| remove_some(txn, &rows, kept).map(Ok)).await?;
        }
        Ok(removed)
    }
}

fn remove_some(txn: &WriteTransaction, rows: &[RowId], max_feed_changes: u64) -> Storage<u64> {
    // Keys and sessions are looked up across all tenants.
    let any_tenant: TenantId = TenantId::DEFAULT.parse().expect("the default tenant's name is well-formed");
    let mut writes = Vec::with_capacity(rows.len());
    for id in rows {
        if let Some(Some(row)) = skip_corrupted(find(txn, &any_tenant, id.clone()))? {
            remove(txn, &row)?;
            writes.push(Write::Delete(id.clone()));
        }
    }
    if !writes.is_empty() {
        changes::append(txn, &writes, None, max_feed_changes)?;
    }
    Ok(writes.len() as u64)
}

/// Removes the oldest entries with numbers up to `last`, at most [`MAX_REMOVALS`]. Returns their number.
fn remove_entries(txn: &WriteTransaction, tenant: &TenantId, last: u64) -> Storage<Result<u64>> {
    let tenant = tenant.as_str();
    let mut audit = txn.open_table(AUDIT)?;
    let mut entries: Vec<AuditEntry> = Vec::new();
    for row in audit.range((tenant, 0)..=(tenant, last))?.take(MAX_REMOVALS) {
        match decode(row?.1.value()) {
            Ok(entry) => entries.push(entry),
            Err(error) => return Ok(Err(error)),
        }
    }
    let (mut by_id, mut by_subject) = (txn.open_table(AUDIT_BY_ID)?, txn.open_table(AUDIT_BY_SUBJECT)?);
    for entry in &entries {
        audit.remove((tenant, entry.number))?;
        by_id.remove(entry.event.id.to_string().as_str())?;
        for subject in subjects_of(&entry.event.filtered_members()) {
            by_subject.remove((tenant, subject.as_str(), entry.number))?;
        }
    }
    if let Some(newest) = entries.last() {
        // The times of a block that is left in part stay as they are, and admit those that are left.
        let blocks = (tenant, 0)..(tenant, (newest.number + 1) / ENTRIES_PER_BLOCK);
        txn.open_table(AUDIT_TIMES)?.retain_in(blocks, |_, _| false)?;
    }
    Ok(Ok(entries.len() as u64))
}

impl Snapshot {
    fn keys_revoked_before(&self, before: Timestamp) -> Result<Vec<RowId>> {
        let revoked = self.0.open_table(REVOKED_KEYS).map_err(storage)?;
        let end = Bound::Excluded((before.as_millis(), &[0; 32]));
        let rows = revoked.range::<(i64, &[u8; 32])>((Bound::Unbounded, end)).map_err(storage)?;
        rows.map(|row| Ok(RowId::Key(KeyDigest::from_bytes(*row.map_err(storage)?.0.value().1)))).collect()
    }

    fn sessions_ended_before(&self, now: Timestamp) -> Result<Vec<RowId>> {
        let sessions = self.0.open_table(SESSIONS).map_err(storage)?;
        let mut ended = Vec::new();
        for row in sessions.iter().map_err(storage)? {
            match decode::<Session>(row.map_err(storage)?.1.value()) {
                Ok(session) if session.expires_at < now => ended.push(RowId::Session(session.id)),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "unreadable session not purged"),
            }
        }
        Ok(ended)
    }
}
