//! Leases of instances.

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::changes;
use super::errors::storage;
use super::rows::{Storage, get, put, remove};
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{LEASES, decode};
use crate::domain::changes::{Row, Write};
use crate::domain::leases::{Lease, LogTime};
use crate::store::{LeaseStore, Result};

#[async_trait]
impl LeaseStore for EmbeddedStore {
    async fn put_lease(&self, lease: &Lease) -> Result<()> {
        let (lease, kept) = (*lease, self.max_feed_changes);
        self.writer.submit(move |txn| put_lease(txn, lease, kept).map(Ok)).await
    }

    async fn list_leases(&self) -> Result<Vec<Lease>> {
        self.read_blocking(Snapshot::list_leases).await
    }

    async fn list_leases_at(&self, _position: LogTime) -> Result<Vec<Lease>> {
        self.list_leases().await
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        let (lease, kept) = (*lease, self.max_feed_changes);
        self.writer.submit(move |txn| delete_lease(txn, lease, kept).map(Ok)).await
    }
}

impl Snapshot {
    fn list_leases(&self) -> Result<Vec<Lease>> {
        let leases = self.0.open_table(LEASES).map_err(storage)?;
        leases.iter().map_err(storage)?.map(|row| decode(row.map_err(storage)?.1.value())).collect()
    }
}

fn put_lease(txn: &WriteTransaction, lease: Lease, max_feed_changes: u64) -> Storage<()> {
    let row = Row::Lease(lease);
    put(txn, &row)?;
    changes::append(txn, &[Write::Put(row)], None, max_feed_changes)
}

/// Removes the lease if it still has this sequence. Returns whether it did.
fn delete_lease(txn: &WriteTransaction, lease: Lease, max_feed_changes: u64) -> Storage<bool> {
    let id = lease.incarnation.to_string();
    let found: Option<Lease> = get(txn, LEASES, id.as_str())?;
    let as_expected = found.is_some_and(|found| found.sequence == lease.sequence);
    if as_expected {
        let row = Row::Lease(lease);
        remove(txn, &row)?;
        changes::append(txn, &[Write::Delete(row.id())], None, max_feed_changes)?;
    }
    Ok(as_expected)
}
