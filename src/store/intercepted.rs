//! A decorator that runs every call of a store through one function, for what concerns all calls: metrics, and the
//! faults that tests inject.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    AuditStore, Backup, BackupError, BackupStore, CommitStore, Feed, FeedStore, KeyStore, LeaseStore, ListedSystems,
    OperatorStore, Page, PageRequest, PurgeStore, Purged, Quota, Result, Rows, ScanStore, SessionStore, SettingsStore,
    Store, SystemState, SystemStore, TenantStore, ThrottleStore, TokenStore, UsageStore,
};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::{Batch, Position};
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId, TokenId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::leases::{Incarnation, Lease, LogTime};
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::domain::tenants::Tenant;
use crate::domain::time::Timestamp;
use crate::domain::tokens::Token;
use crate::domain::usage::{BucketCounts, Flush, UsageRange, UsageRetention, UsageSummary};

/// Runs around every call of an [`Intercepted`] store.
pub trait Intercept: Send + Sync + 'static {
    /// Awaits `call`, the method `name` of the inner store, and returns its result or another one. The inner method
    /// does nothing before `call` is polled.
    fn call<T: Send>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Replaces a feed that was opened. Returns it unchanged by default.
    fn feed(&self, feed: Feed) -> Feed {
        feed
    }
}

/// A store whose calls run through an [`Intercept`].
pub struct Intercepted<I> {
    inner: Arc<dyn Store>,
    intercept: I,
}

impl<I> Intercepted<I> {
    pub fn new(inner: Arc<dyn Store>, intercept: I) -> Self {
        Self { inner, intercept }
    }
}

#[async_trait]
impl<I: Intercept> Store for Intercepted<I> {
    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn read_epoch(&self) -> u64 {
        self.inner.read_epoch()
    }

    async fn ping(&self) -> Result<()> {
        self.intercept.call("ping", self.inner.ping()).await
    }
}

#[async_trait]
impl<I: Intercept> FeedStore for Intercepted<I> {
    async fn watch(&self, after: Option<&Position>, own: Option<&[Incarnation]>) -> Result<Feed> {
        let feed = self.intercept.call("watch", self.inner.watch(after, own)).await?;
        Ok(self.intercept.feed(feed))
    }
}

/// Implements a trait by passing each call of it through [`Intercept::call`].
macro_rules! intercept {
    ($(impl $concept:ident {
        $(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)+
    })+) => {
        $(
            #[async_trait]
            impl<I: Intercept> $concept for Intercepted<I> {
                $(async fn $name(&self $(, $argument: $type)*) -> $result {
                    self.intercept.call(stringify!($name), self.inner.$name($($argument),*)).await
                })+
            }
        )+
    };
}

intercept! {
    impl SystemStore {
        async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>>;
        async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState>;
        async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>>;
        async fn find_system_by_external_id(
            &self, tenant: &TenantId, external_id: &ExternalId
        ) -> Result<Option<System>>;
        async fn list_systems(
            &self, tenant: &TenantId, search: &Search, order: SystemOrder, page: &PageRequest<SystemSortKey>
        ) -> Result<Page<System>>;
        async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64>;
        async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>>;
    }
    impl KeyStore {
        async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>>;
        async fn find_key_to_change(&self, digest: KeyDigest) -> Result<Option<Key>>;
        async fn list_due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>>;
    }
    impl OperatorStore {
        async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>>;
        async fn find_operator_to_change(&self, id: OperatorId) -> Result<Option<Operator>>;
        async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>>;
        async fn recheck_operator(&self, username: &Username) -> Result<Option<Operator>>;
        async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>>;
    }
    impl SessionStore {
        async fn find_session(&self, id: SessionId) -> Result<Option<Session>>;
        async fn find_session_to_change(&self, id: SessionId) -> Result<Option<Session>>;
        async fn list_oldest_sessions(
            &self, operator: OperatorId, password_version: u64, limit: usize
        ) -> Result<Vec<Session>>;
        async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>>;
    }
    impl TenantStore {
        async fn find_tenant(&self, id: &TenantId) -> Result<Option<Tenant>>;
        async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Tenant>>;
        async fn list_all_tenants(&self) -> Result<Vec<Tenant>>;
    }
    impl TokenStore {
        async fn find_token(&self, digests: &[KeyDigest]) -> Result<Option<Token>>;
        async fn find_token_by_id(&self, id: TokenId) -> Result<Option<Token>>;
        async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>>;
    }
    impl AuditStore {
        async fn list_tenants(&self) -> Result<Vec<TenantId>>;
        async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;
        async fn stored_audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;
        async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>>;
        async fn list_audit(
            &self, tenant: &TenantId, filter: &AuditFilter, page: &PageRequest<u64>
        ) -> Result<Page<AuditEntry>>;
        async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64>;
        async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>>;
        async fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>>;
        async fn recheck_audit_entry(&self, tenant: &TenantId, number: u64) -> Result<Option<AuditHead>>;
    }
    impl CommitStore {
        async fn commit(&self, batch: Batch) -> Result<AuditEntry>;
    }
    impl ScanStore {
        async fn scan_rows(&self) -> Result<Rows>;
        async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)>;
    }
    impl LeaseStore {
        async fn put_lease(&self, lease: &Lease) -> Result<()>;
        async fn list_leases(&self) -> Result<Vec<Lease>>;
        async fn list_leases_at(&self, position: LogTime) -> Result<Vec<Lease>>;
        async fn delete_lease(&self, lease: &Lease) -> Result<bool>;
    }
    impl ThrottleStore {
        async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>>;
        async fn find_arrivals(&self, buckets: &[String]) -> Result<Vec<Timestamp>>;
        async fn put_arrival(&self, bucket: &str, arrival: Timestamp) -> Result<()>;
        async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;
    }
    impl SettingsStore {
        async fn find_setting(&self, name: &str) -> Result<Option<String>>;
        async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool>;
        async fn list_settings(&self, prefix: &str) -> Result<Vec<(String, String)>>;
        async fn has_marker(&self, marker: &str) -> Result<bool>;
    }
    impl PurgeStore {
        async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged>;
        async fn purge_sessions(&self, operator: OperatorId, password_version: u64) -> Result<u64>;
        async fn purge_audit(&self, tenant: &TenantId, last: u64) -> Result<u64>;
    }
    impl UsageStore {
        async fn add_usage(&self, flush: &Flush) -> Result<()>;
        async fn find_usage(
            &self, tenant: &TenantId, system: SystemId, range: &UsageRange
        ) -> Result<Vec<BucketCounts>>;
        async fn find_usage_summaries(&self, tenant: &TenantId, systems: &[SystemId]) -> Result<Vec<UsageSummary>>;
        async fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>>;
        async fn purge_usage(
            &self, now: Timestamp, retention: UsageRetention, unused_since: Timestamp
        ) -> Result<u64>;
    }
    impl BackupStore {
        async fn back_up(&self, file: &Path) -> Result<Result<Backup, BackupError>>;
    }
}
