//! The ends of the audit logs in memory, of the tenants for which they were read.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::ids::TenantId;
use crate::store::Result;

/// Tenants whose ends are kept, some 150 bytes each. Beyond that, all are read again.
const MAX_TENANTS: usize = 10_000;

#[derive(Default)]
pub(super) struct AuditHeads {
    known: Mutex<HashMap<TenantId, AuditHead>>,
    /// Written in the current transaction.
    written: Mutex<Vec<(TenantId, AuditHead)>>,
}

impl AuditHeads {
    /// Returns the end of the tenant's log, which `read` reads from the file if it is not known.
    pub(super) fn find_or_read(
        &self,
        tenant: &TenantId,
        read: impl FnOnce() -> Result<AuditHead>,
    ) -> Result<AuditHead> {
        let mut known = lock(&self.known);
        if let Some(head) = known.get(tenant) {
            return Ok(*head);
        }
        // Under the lock: a commit that this read does not see calls `committed` after the insertion.
        let head = read()?;
        if known.len() >= MAX_TENANTS {
            known.clear();
        }
        known.insert(tenant.clone(), head);
        Ok(head)
    }

    /// The current transaction, which may fail, has written this entry.
    pub(super) fn written(&self, entry: &AuditEntry) {
        lock(&self.written).push((entry.tenant.clone(), entry.head()));
    }

    /// The transaction was committed, and no caller has been notified yet.
    pub(super) fn committed(&self) {
        let mut known = lock(&self.known);
        for (tenant, head) in lock(&self.written).drain(..) {
            if let Some(known) = known.get_mut(&tenant) {
                *known = head;
            }
        }
    }

    /// The transaction failed, and the file may hold it or not.
    pub(super) fn clear(&self) {
        lock(&self.written).clear();
        lock(&self.known).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
