//! Queues that order the commits of one tenant within this instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::domain::audit::AuditHead;
use crate::domain::ids::TenantId;

/// Number of queues above which unused ones are removed.
const MAX_IDLE_QUEUES: usize = 1024;

/// One queue per tenant, in order of arrival: at any time at most one of this instance's callers competes with those of
/// other instances.
#[derive(Default)]
pub(super) struct TenantQueues(Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<Queue>>>>);

#[derive(Default)]
pub(super) struct Queue {
    /// The last head of the tenant's log that this instance has seen. Another instance may have appended since.
    pub(super) head: Option<AuditHead>,
    /// When a caller last lost the database: callers that were already waiting fail without trying one after the other.
    pub(super) lost_at: Option<Instant>,
}

impl TenantQueues {
    pub(super) fn of(&self, tenant: &TenantId) -> Arc<tokio::sync::Mutex<Queue>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.len() >= MAX_IDLE_QUEUES && !queues.contains_key(tenant) {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        Arc::clone(queues.entry(tenant.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_queues_are_removed() {
        let queues = TenantQueues::default();
        let held = queues.of(&"held".parse().unwrap());
        for i in 0..5 * MAX_IDLE_QUEUES {
            queues.of(&format!("tenant-{i}").parse().unwrap());
        }
        assert!(queues.0.lock().unwrap().len() <= MAX_IDLE_QUEUES);
        assert!(Arc::ptr_eq(&held, &queues.of(&"held".parse().unwrap())), "a queue in use is kept");
    }
}
