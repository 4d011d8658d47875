//! A store that counts its calls, fails on command, and runs other code in the middle of a call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use keymark::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use keymark::domain::changes::{Batch, Position};
use keymark::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use keymark::domain::keys::{Key, KeyDigest};
use keymark::domain::leases::Lease;
use keymark::domain::operators::{Operator, Username};
use keymark::domain::sessions::{Session, SessionId};
use keymark::domain::system_names::Search;
use keymark::domain::systems::{System, SystemOrder, SystemSortKey};
use keymark::domain::time::Timestamp;
use keymark::store::{Feed, ListedSystems, Page, PageRequest, Purged, Quota, Result, Rows, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::within;

/// The cause of the injected failures. It may appear in the log, but in no response.
pub const CAUSE: &str = "connection to 10.1.2.3:27017 refused: driver-internal-detail";

/// Wraps a store and applies the faults of its [`Switch`].
pub struct Faulty {
    inner: Arc<dyn Store>,
    switch: Switch,
}

/// Controls a [`Faulty`] store.
#[derive(Clone, Default)]
pub struct Switch(Arc<Orders>);

#[derive(Default)]
struct Orders {
    fails: AtomicBool,
    /// Runs once, after the next call of this name and before it returns.
    after: Mutex<Option<(&'static str, BoxFuture<'static, ()>)>>,
    /// The number of calls by name.
    calls: watch::Sender<HashMap<&'static str, u64>>,
    /// Ends the open feeds.
    feeds: Mutex<CancellationToken>,
}

impl Switch {
    pub fn fail(&self) {
        self.0.fails.store(true, Ordering::SeqCst);
    }

    pub fn work(&self) {
        self.0.fails.store(false, Ordering::SeqCst);
    }

    /// Runs `happening` once, after the next call of this name has been carried out and before it returns.
    pub fn after(&self, call: &'static str, happening: impl Future<Output = ()> + Send + 'static) {
        *self.0.after.lock().unwrap() = Some((call, Box::pin(happening)));
    }

    /// The number of calls with one of these names so far.
    pub fn calls(&self, names: &[&str]) -> u64 {
        let calls = self.0.calls.borrow();
        names.iter().filter_map(|name| calls.get(name)).sum()
    }

    /// Waits until a call of this name was made `count` times.
    pub async fn wait_for_calls(&self, name: &str, count: u64) {
        let mut calls = self.0.calls.subscribe();
        let reached = calls.wait_for(|calls| calls.get(name).is_some_and(|made| *made >= count));
        within(reached).await.expect("the switch lives");
    }

    /// Ends the open feeds.
    pub fn break_feeds(&self) {
        std::mem::take(&mut *self.0.feeds.lock().unwrap()).cancel();
    }

    fn happening(&self, call: &str) -> Option<BoxFuture<'static, ()>> {
        self.0.after.lock().unwrap().take_if(|(name, _)| *name == call).map(|(_, happening)| happening)
    }
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>, switch: &Switch) -> Self {
        Self { inner, switch: switch.clone() }
    }

    fn check(&self, call: &'static str) -> Result<()> {
        self.switch.0.calls.send_modify(|calls| *calls.entry(call).or_default() += 1);
        if self.switch.0.fails.load(Ordering::SeqCst) { Err(StoreError::Unavailable(CAUSE.into())) } else { Ok(()) }
    }
}

/// Implements [`Store`] by forwarding each call after [`Faulty::check`].
macro_rules! passed_on {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for Faulty {
            fn is_shared(&self) -> bool {
                self.inner.is_shared()
            }

            $(async fn $name(&self $(, $argument: $type)*) -> $answer {
                self.check(stringify!($name))?;
                let answer = self.inner.$name($($argument),*).await;
                if let Some(happening) = self.switch.happening(stringify!($name)) {
                    happening.await;
                }
                answer
            })+

            async fn watch(&self, after: Option<&Position>) -> Result<Feed> {
                self.check("watch")?;
                let feed = self.inner.watch(after).await?;
                if let Some(happening) = self.switch.happening("watch") {
                    happening.await;
                }
                let broken = self.switch.0.feeds.lock().unwrap().clone();
                Ok(feed.take_until(broken.cancelled_owned()).boxed())
            }
        }
    };
}

passed_on! {
    async fn ping(&self) -> Result<()>;
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>>;
    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>>;
    async fn list_systems(
        &self, tenant: &TenantId, search: &Search, order: SystemOrder, page: &PageRequest<SystemSortKey>
    ) -> Result<Page<System>>;
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
    async fn scan_rows(&self) -> Result<Rows>;
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)>;
    async fn put_lease(&self, lease: &Lease) -> Result<()>;
    async fn list_leases(&self) -> Result<Vec<Lease>>;
    async fn delete_lease(&self, lease: &Lease) -> Result<bool>;
    async fn take_token(
        &self, bucket: &str, quota: Quota, now: Timestamp
    ) -> Result<Result<(), std::time::Duration>>;
    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;
    async fn find_setting(&self, name: &str) -> Result<Option<String>>;
    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool>;
    async fn has_marker(&self, marker: &str) -> Result<bool>;
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged>;
}
