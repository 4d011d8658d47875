//! Any store, with its calls timed and its errors counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::{Feed, ListedSystems, Page, PageRequest, Purged, Quota, Result, Rows, Store, StoreError};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::{Batch, Position};
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::leases::Lease;
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::domain::time::Timestamp;

/// Seconds: from a look-up in a file to a call that gave up.
const BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Passes calls on to a store.
pub struct Observed {
    inner: Arc<dyn Store>,
    calls: Family<Labels<1>, Histogram, fn() -> Histogram>,
    errors: Family<Labels<2>, Counter>,
}

impl Observed {
    pub fn new(inner: Arc<dyn Store>, registry: &mut Registry) -> Self {
        let calls = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let errors = Family::default();
        registry.register("store_call_seconds", "Calls of the store, by name", calls.clone());
        registry.register("store_errors", "Calls of the store that failed, by name and kind", errors.clone());
        Self { inner, calls, errors }
    }

    fn note<T>(&self, call: &'static str, began: Instant, answer: &Result<T>) {
        self.calls.get_or_create(&[("call", call)]).observe(began.elapsed().as_secs_f64());
        if let Err(error) = answer {
            self.errors.get_or_create(&[("call", call), ("kind", kind_of(error))]).inc();
        }
    }
}

fn kind_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Conflict(_) => "conflict",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::OutcomeUnknown(_) => "outcome_unknown",
        StoreError::PositionTooOld => "position_too_old",
        StoreError::Corrupt(_) => "corrupt",
    }
}

macro_rules! observed {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for Observed {
            fn is_shared(&self) -> bool {
                self.inner.is_shared()
            }

            $(async fn $name(&self $(, $argument: $type)*) -> $answer {
                let began = Instant::now();
                let answer = self.inner.$name($($argument),*).await;
                self.note(stringify!($name), began, &answer);
                answer
            })+
        }
    };
}

observed! {
    async fn ping(&self) -> Result<()>;
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>>;
    async fn list_systems(
        &self, tenant: &TenantId, search: &Search, order: SystemOrder, page: &PageRequest<SystemSortKey>
    ) -> Result<Page<System>>;
    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>>;
    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64>;
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>>;
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>>;
    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>>;
    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>>;
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>>;
    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>>;
    async fn list_tenants(&self) -> Result<Vec<TenantId>>;
    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;
    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>>;
    async fn list_audit(
        &self, tenant: &TenantId, filter: &AuditFilter, page: &PageRequest<u64>
    ) -> Result<Page<AuditEntry>>;
    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64>;
    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>>;
    async fn commit(&self, batch: Batch) -> Result<AuditEntry>;
    async fn watch(&self, after: Option<&Position>) -> Result<Feed>;
    async fn scan_rows(&self) -> Result<Rows>;
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)>;
    async fn put_lease(&self, lease: &Lease) -> Result<()>;
    async fn list_leases(&self) -> Result<Vec<Lease>>;
    async fn delete_lease(&self, lease: &Lease) -> Result<bool>;
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>>;
    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;
    async fn find_setting(&self, name: &str) -> Result<Option<String>>;
    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool>;
    async fn has_marker(&self, marker: &str) -> Result<bool>;
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged>;
}
