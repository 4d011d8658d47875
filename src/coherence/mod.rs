//! The in-memory cache and the lease protocol.
//!
//! Each instance keeps the keys, operators and sessions of all tenants in a [`Cache`], loaded from the store once and
//! kept current by the store's feed. The cache may be read only while the instance holds a lease; see [`protocol`]. A
//! change that makes caches outdated waits at a [`Barrier`] until every instance enforces it. What lists of systems are searched,
//! filtered and sorted by is cached too, under a rule that needs no barrier; see [`search`].

mod audit_numbers;
pub mod identities;
pub mod key_index;
mod last_uses;
mod locks;
mod metrics;
mod name_index;
pub mod pending_uses;
#[cfg(test)]
mod planted_bugs;
pub mod protocol;
pub mod search;
#[cfg(test)]
mod simulation;
pub mod tenant_names;
mod unreadable;
mod usage;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::{StreamExt, TryStreamExt};
use prometheus_client::registry::Registry;
use rand::RngExt;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::audit_numbers::AuditNumbers;
use self::identities::Identities;
use self::key_index::KeyIndex;
use self::metrics::{CacheGauges, CoherenceMetrics, Gauges};
use self::pending_uses::PendingUses;
use self::protocol::{Enforced, Leases, Listing, LogEvent, OtherInstance, PendingChangeId, Protocol, Role};
use self::tenant_names::TenantNames;
use self::unreadable::UnreadableRows;
use self::usage::Rotations;
use crate::clock::{AtomicDeadline, Environment, Moment, Stopwatch};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Change, Row, RowId, StoredRow, Write};
use crate::domain::ids::{AuditEntryId, TenantId};
use crate::domain::keys::KeyDigest;
use crate::domain::leases::{Incarnation, LENGTH_SETTING, Lease, LogTime};
use crate::domain::time::Timestamp;
use crate::domain::verdict::KeyStatus;
use crate::store::{Feed, Store, StoreError};

/// Limit on the write of a probe. A probe that takes longer would renew little of the lease.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a new feed to deliver a write of this instance: milliseconds, or the feed has missed it.
const MAX_JOIN_WAIT: Duration = Duration::from_secs(10);
/// Delay before a lost feed is opened again; doubles with each failure, up to [`MAX_RETRY_DELAY`].
const MIN_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// The same after a row or lease in a newer format, which only an upgrade of this instance makes readable: the load that
/// follows reads all rows, and is likely to fail again.
const NEWER_FORMAT_RETRY_DELAY: Duration = Duration::from_secs(30);

/// The cache of one incarnation of this instance. When its feed is lost, it is dropped as a whole and never repaired.
pub struct Cache {
    /// Until when it may be read.
    deadline: AtomicDeadline,
    pub keys: KeyIndex,
    pub identities: Identities,
    pub names: Arc<TenantNames>,
    unreadable: UnreadableRows,
}

impl Cache {
    fn new(pending_uses: Arc<PendingUses>) -> Self {
        let names = Arc::new(TenantNames::new(tenant_names::MAX_NAME_BYTES));
        Self {
            deadline: AtomicDeadline::default(),
            keys: KeyIndex::new(pending_uses),
            identities: Identities::new(),
            names,
            unreadable: UnreadableRows::default(),
        }
    }

    /// Finds the key with one of these digests, of which each is computed once. Returns `None` if a stored key with one
    /// of them could not be read: it may have been repaired, so the caller must read the store.
    ///
    /// If the key is live, counts a use at the time that `used_at` returns for its status.
    pub fn find_key(
        &self,
        digests: impl Iterator<Item = KeyDigest>,
        used_at: impl Fn(&KeyStatus) -> Option<Timestamp>,
    ) -> Option<Option<KeyStatus>> {
        let mut missed = Vec::new();
        for digest in digests {
            if let Some(found) = self.keys.find_and_count(&digest, &used_at) {
                return self.is_readable(found.tenant()).then_some(Some(found));
            }
            missed.push(digest);
        }
        // Between the two look-ups, `Service::redigest_keys` may have moved the key to its digest under the current
        // secret.
        if let [current, _, ..] = missed.as_slice()
            && let Some(found) = self.keys.find_and_count(current, &used_at)
        {
            return self.is_readable(found.tenant()).then_some(Some(found));
        }
        let is_unreadable = missed.iter().any(|digest| self.unreadable.contains(&RowId::Key(*digest)));
        (!is_unreadable).then_some(None)
    }

    /// Whether the tenant's row, if it has one, could be read. Otherwise the caller must read the store.
    pub fn is_readable(&self, tenant: &TenantId) -> bool {
        self.unreadable.is_empty() || !self.unreadable.contains(&RowId::Tenant(tenant.clone()))
    }

    /// Stores a row that was read in a scan.
    fn put_stored(&self, row: &StoredRow) {
        match row {
            StoredRow::Readable(row) => self.put(row),
            StoredRow::Unreadable(id) => self.unreadable.insert(id.clone()),
        }
    }

    fn put(&self, row: &Row) {
        match row {
            Row::Key(key) => self.keys.put(key),
            Row::Operator(operator) => self.identities.put_operator(operator),
            Row::Session(session) => self.identities.put_session(session),
            Row::Token(token) => self.identities.put_token(token),
            Row::Tenant(tenant) => {
                let cached = self.identities.put_tenant(tenant);
                self.keys.suspend_tenant(&cached.id, cached.suspended_at());
            }
            Row::System(_) | Row::Lease(_) => {}
        }
    }

    fn apply(&self, change: &Change) {
        for write in &change.writes {
            match write {
                Write::Put(row) => self.put(row),
                Write::Delete(id) => self.remove(id),
            }
            self.unreadable.remove(&write.id());
        }
        for row in &change.foreign {
            self.overwrite(row);
        }
        self.names.apply(change);
    }

    fn remove(&self, id: &RowId) {
        match id {
            RowId::Key(digest) => self.keys.remove(digest),
            RowId::Operator(id) => self.identities.remove_operator(*id),
            RowId::Session(id) => self.identities.remove_session(*id),
            RowId::Token(id) => self.identities.remove_token(*id),
            RowId::Tenant(id) => {
                self.identities.remove_tenant(id);
                self.keys.suspend_tenant(id, None);
            }
            RowId::System(_) | RowId::Lease(_) => {}
        }
    }

    /// Replaces the cached row whatever its revision. A row that cannot be read is not cached: requests for it read the
    /// store, which refuses them.
    fn overwrite(&self, row: &StoredRow) {
        match row {
            StoredRow::Readable(row) => {
                match row {
                    Row::Key(key) => self.keys.overwrite(key),
                    Row::Operator(operator) => self.identities.overwrite_operator(operator),
                    Row::Token(token) => self.identities.overwrite_token(token),
                    Row::Tenant(tenant) => {
                        self.identities.overwrite_tenant(tenant);
                        self.keys.suspend_tenant(&tenant.id, tenant.suspended_at());
                    }
                    Row::Session(_) | Row::System(_) | Row::Lease(_) => self.put(row),
                }
                self.unreadable.remove(&row.id());
            }
            StoredRow::Unreadable(id) => {
                // In this order, so that no reader finds neither.
                self.unreadable.insert(id.clone());
                self.remove(id);
            }
        }
    }
}

/// Whether a change is known to be enforced on every instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// Time from the commit until the change was known to be enforced, or until the wait timed out.
    pub elapsed: Duration,
    /// Instances that acknowledged the change, or are known not to serve from a cache without it.
    pub instances: u32,
    pub is_enforced: bool,
    /// If the wait timed out: the time after which no instance uses the old state. `None` if there is no such bound.
    pub pending_until: Option<Timestamp>,
}

impl Enforcement {
    /// For a request that committed nothing.
    pub const NOTHING_TO_ENFORCE: Self =
        Self { elapsed: Duration::ZERO, instances: 0, is_enforced: true, pending_until: None };
}

/// An instance, as this one knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownInstance {
    /// `None` while this instance has no feed.
    pub incarnation: Option<Incarnation>,
    pub is_current: bool,
    pub state: InstanceState,
    /// When it last renewed its lease, as far as the leases were listed since; now, if it is the only one.
    pub renewed_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It serves from its cache.
    Cached,
    /// It reads the store.
    Bypassed,
    /// Its lease has ended, and it has not said why: it has crashed, or cannot reach the database.
    Silent,
}

/// An event of the store's feed, as its followers receive it.
#[derive(Clone)]
pub enum FeedEvent {
    Change(Arc<Change>),
    /// A feed was opened, for the first time or after a loss. Changes may have been missed before it.
    Resumed,
}

/// Keeps the cache current and reports when changes are enforced.
pub struct Coherence {
    store: Arc<dyn Store>,
    environment: Environment,
    stopwatch: Arc<dyn Stopwatch>,
    role: Role,
    cache: ArcSwapOption<Cache>,
    state: Mutex<State>,
    /// Wakes [`run_timer`](Self::run_timer), since the time of its next wake-up may have changed, and whoever watches
    /// [`changes`](Self::changes).
    changed: watch::Sender<()>,
    loaded: AtomicBool,
    /// Whether the store holds data in a newer format than this release knows.
    newer_format: AtomicBool,
    pending_uses: Arc<PendingUses>,
    rotations: Mutex<Rotations>,
    /// Caches that were dropped while they were read. See [`usage`].
    dropped_caches: Mutex<Vec<Arc<Cache>>>,
    /// Sends probes and lists leases.
    tasks: TaskTracker,
    metrics: CoherenceMetrics,
}

struct State {
    protocol: Protocol,
    barriers: HashMap<PendingChangeId, oneshot::Sender<Enforced>>,
    /// The last lease that was sent, to be deleted when the process ends.
    last_lease: Option<Lease>,
    /// Whether a change was applied of which subscribers are yet to be notified. No barrier opens meanwhile, so that this
    /// instance notifies its subscribers of a change before its client gets the response.
    is_notifying: bool,
}

impl Coherence {
    pub fn new(
        store: Arc<dyn Store>,
        environment: Environment,
        stopwatch: Arc<dyn Stopwatch>,
        role: Role,
    ) -> Arc<Self> {
        let state =
            State { protocol: Protocol::new(role), barriers: HashMap::new(), last_lease: None, is_notifying: false };
        Arc::new(Self {
            store,
            environment,
            stopwatch,
            role,
            cache: ArcSwapOption::empty(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            loaded: AtomicBool::new(false),
            newer_format: AtomicBool::new(false),
            pending_uses: Arc::default(),
            rotations: Mutex::default(),
            dropped_caches: Mutex::default(),
            tasks: TaskTracker::new(),
            metrics: CoherenceMetrics::default(),
        })
    }

    /// Returns what `read` returns from the cache, or `None` if the cache may not be used now and the caller must read
    /// the store.
    ///
    /// Three reads, in an order that matters. The deadline is loaded before the entry: if the thread pauses between
    /// the two, a lease renewed during the pause must not cover an entry read before it. The clock is read after the
    /// entry, so that a pause between these two is noticed as well.
    pub fn read<T>(&self, read: impl FnOnce(&Cache) -> T) -> Option<T> {
        self.read_with_check(|cache, _| read(cache))
    }

    /// Like [`read`](Self::read), for a `read` that acts on what it finds: the function that it receives returns whether
    /// the cache may be used, and is to be called after the entry was read. The result of its last call is decisive.
    pub fn read_with_check<T>(&self, read: impl FnOnce(&Cache, &dyn Fn() -> bool) -> T) -> Option<T> {
        let cache = self.cache.load();
        let cache = cache.as_ref()?;
        let deadline = cache.deadline.load();
        let checked = Cell::new(None);
        let check = || {
            let is_valid = self.stopwatch.now().is_before(deadline);
            checked.set(Some(is_valid));
            is_valid
        };
        let found = read(cache, &check);
        checked.get().unwrap_or_else(check).then_some(found)
    }

    /// Whether an instance of release 0.1 is running, which knows only the first stored format.
    pub fn knows_first_release(&self) -> bool {
        self.state().protocol.knows_first_release()
    }

    /// The instances that are known, this one first.
    pub fn known_instances(&self) -> Vec<KnownInstance> {
        let (moment, now) = (self.stopwatch.now(), self.environment.now());
        let (incarnation, age, others) = {
            let state = self.state();
            (state.protocol.incarnation(), state.protocol.lease_age(moment), state.protocol.others(moment))
        };
        let own = KnownInstance {
            incarnation,
            is_current: true,
            state: if self.read(|_| ()).is_some() { InstanceState::Cached } else { InstanceState::Bypassed },
            renewed_at: now.minus(age.unwrap_or_default()),
        };
        let other = |other: OtherInstance| KnownInstance {
            incarnation: Some(other.incarnation),
            is_current: false,
            state: match other {
                OtherInstance { has_cache: false, .. } => InstanceState::Bypassed,
                OtherInstance { has_lease: true, .. } => InstanceState::Cached,
                OtherInstance { has_lease: false, .. } => InstanceState::Silent,
            },
            renewed_at: now.minus(other.renewed),
        };
        std::iter::once(own).chain(others.into_iter().map(other)).collect()
    }

    /// Returns true once the cache has been loaded, or, in a process without a cache, once the feed was opened. Stays
    /// true when the feed is lost.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Number of the keys in the cache, current and revoked. `None` without a cache.
    pub fn cached_keys(&self) -> Option<usize> {
        self.cache.load().as_ref().map(|cache| cache.keys.current() + cache.keys.revoked())
    }

    /// Returns a receiver that is notified after each change of what this instance knows: the cache was loaded or
    /// dropped, a change was applied, or the lease was renewed. A lease that expires notifies nobody.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Creates a barrier for a batch with this audit entry. Must be called before the batch is committed.
    pub fn begin(self: &Arc<Self>, entry: AuditEntryId) -> Barrier {
        self.barrier(|protocol, _| protocol.begin(entry))
    }

    /// Creates a barrier for a request whose change was found to be committed already, by any instance.
    pub fn begin_repeat(self: &Arc<Self>) -> Barrier {
        let barrier = self.barrier(Protocol::begin_repeat);
        // It waits for a probe, which nothing else would send before the next one is due.
        self.run_due_and_reschedule();
        barrier
    }

    fn barrier(self: &Arc<Self>, begin: impl FnOnce(&mut Protocol, Moment) -> PendingChangeId) -> Barrier {
        let (done, enforced) = oneshot::channel();
        let mut state = self.state();
        let id = begin(&mut state.protocol, self.stopwatch.now());
        state.barriers.insert(id, done);
        drop(state);
        Barrier { coherence: Arc::clone(self), id, committed: None, enforced }
    }

    /// Registers the metrics of the cache, the lease and the barriers.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let coherence = Arc::clone(self);
        self.metrics.register(registry, move || coherence.gauges());
    }

    fn gauges(&self) -> Gauges {
        let now = self.stopwatch.now();
        let (instances, lease_age, feed_lag) = {
            let state = self.state();
            (state.protocol.instances(), state.protocol.lease_age(now), state.protocol.feed_lag(now))
        };
        let cache = self.cache.load();
        let cache = cache.as_ref().map(|cache| {
            let (named_tenants, name_bytes) = cache.names.size();
            let (service_tokens, verifier_tokens) = cache.identities.tokens();
            let (active_tenants, suspended_tenants) = cache.identities.tenants();
            CacheGauges {
                keys: cache.keys.current(),
                revoked_keys: cache.keys.revoked(),
                suspended_keys: cache.keys.suspended(),
                expiring_keys: metrics::EXPIRING_WITHIN_DAYS.map(|days| {
                    let within = Duration::from_hours(24 * u64::from(days));
                    (days, cache.keys.expiring(self.environment.now(), within))
                }),
                key_bytes: cache.keys.bytes(),
                sessions: cache.identities.sessions(),
                operators: cache.identities.operators(),
                service_tokens,
                verifier_tokens,
                active_tenants,
                suspended_tenants,
                named_tenants,
                name_bytes,
                unreadable_rows: cache.unreadable.len(),
                keys_by_secret: cache.keys.by_secret(),
            }
        });
        Gauges {
            is_cache_used: self.read(|_| ()).is_some(),
            has_newer_format: self.newer_format.load(Ordering::Relaxed),
            instances,
            lease_age,
            feed_lag,
            cache,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if this process loads a cache.
    pub fn has_cache(&self) -> bool {
        match self.role {
            Role::Standalone => true,
            Role::Member(timing) => !timing.lease.is_zero(),
            Role::Uncached | Role::Observer(_) => false,
        }
    }

    /// Opens the barriers of enforced changes, and sends a probe and lists leases if that is due. Returns true if it sends
    /// a probe.
    fn run_due(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        let now = self.stopwatch.now();
        let enforced = if state.is_notifying { Vec::new() } else { state.protocol.take_enforced(now) };
        for enforced in enforced {
            if let Some(done) = state.barriers.remove(&enforced.change) {
                // Fails if the caller no longer waits.
                let _ = done.send(enforced);
            }
        }
        let probe = state.protocol.start_probe(now);
        state.last_lease = probe.or(state.last_lease);
        let listing = state.protocol.start_listing(now);
        drop(state);
        if let Some(listing) = listing {
            let coherence = Arc::clone(self);
            self.tasks.spawn(async move { coherence.list(listing).await });
        }
        if let Some(lease) = probe {
            let coherence = Arc::clone(self);
            self.tasks.spawn(async move { coherence.send_probe(lease).await });
        }
        probe.is_some()
    }

    /// Called after the protocol's state has changed: does what is due, and schedules the next wake-up again.
    fn run_due_and_reschedule(self: &Arc<Self>) {
        self.run_due();
        self.changed.send_replace(());
    }

    async fn send_probe(self: Arc<Self>, lease: Lease) {
        let sent = tokio::time::timeout(PROBE_TIMEOUT, self.store.put_lease(&lease)).await;
        let succeeded = matches!(sent, Ok(Ok(())));
        let now = self.stopwatch.now();
        let stale = {
            let mut state = self.state();
            state.protocol.probe_ended(&lease, succeeded, now);
            if succeeded { state.protocol.stale_leases(now) } else { Vec::new() }
        };
        self.run_due_and_reschedule();
        for lease in &stale {
            self.delete_lease(lease).await;
        }
    }

    /// Lists the leases of all instances for the protocol.
    async fn list(self: Arc<Self>, listing: Listing) {
        let listed = self.list_leases(listing).await;
        if let Err(error) = &listed {
            tracing::debug!(%error, "leases not listed");
        }
        self.state().protocol.listing_ended(listed.as_ref().ok(), self.stopwatch.now());
        self.run_due_and_reschedule();
    }

    /// Reads the leases of all instances. If one states no length, reads the setting then: release 0.1 puts a lease only
    /// after it has found its length there, and the setting is never lowered.
    async fn list_leases(&self, listing: Listing) -> Result<Leases, StoreError> {
        let leases = match listing {
            Listing::Current => self.store.list_leases().await?,
            Listing::At(position) => self.store.list_leases_at(position).await?,
        };
        let setting = match leases.iter().any(|lease| lease.length.is_none()) {
            true => self.store.find_setting(LENGTH_SETTING).await?,
            false => None,
        };
        let longest = setting.and_then(|millis| millis.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        Ok(Leases { leases, longest })
    }

    /// Deletes a lease that is no longer used. A failure is harmless: other instances wait until the lease expires.
    async fn delete_lease(&self, lease: &Lease) {
        if let Err(error) = self.store.delete_lease(lease).await {
            tracing::debug!(%error, "lease not deleted");
        }
    }

    /// Follows the store's feed until `stop` is cancelled, and passes each event to `notify`. Then releases the lease.
    pub async fn follow(self: &Arc<Self>, stop: CancellationToken, notify: impl Fn(FeedEvent)) {
        let following = async {
            let mut retry_delay = MIN_RETRY_DELAY;
            loop {
                let incarnation = Incarnation::generate(&mut **self.environment.rng());
                let join_lease = self.join_lease();
                let own = [incarnation, join_lease.incarnation];
                let error = match self.store.watch(None, Some(&own)).await {
                    Ok(feed) => {
                        notify(FeedEvent::Resumed);
                        let error = self.run_incarnation(feed, incarnation, join_lease, &notify).await;
                        let is_newer_format = matches!(error, StoreError::NewerFormat { .. });
                        self.newer_format.store(is_newer_format, Ordering::Relaxed);
                        if self.drop_cache() {
                            retry_delay = MIN_RETRY_DELAY;
                        }
                        error
                    }
                    Err(error) => error,
                };
                let max_delay = if let StoreError::NewerFormat { .. } = error {
                    tracing::error!(%error, "newer format; cache bypassed until this instance is upgraded");
                    NEWER_FORMAT_RETRY_DELAY
                } else {
                    tracing::warn!(%error, "change feed lost; cache bypassed until reload");
                    retry_delay
                };
                // Random, so that instances which lost the feed together do not all load at the same time.
                let delay = self.environment.rng().random_range(max_delay / 2..=max_delay);
                tokio::time::sleep(delay).await;
                retry_delay = (retry_delay * 2).min(MAX_RETRY_DELAY);
            }
        };
        let _: Option<std::convert::Infallible> = stop
            .run_until_cancelled(async {
                tokio::select! {
                    never = following => never,
                    never = self.run_timer() => never,
                }
            })
            .await;
        self.release_lease().await;
    }

    /// Loads the cache and keeps it current, until the feed is lost. Returns the error that ended the feed.
    async fn run_incarnation(
        self: &Arc<Self>,
        mut feed: Feed,
        incarnation: Incarnation,
        join_lease: Lease,
        notify: &impl Fn(FeedEvent),
    ) -> StoreError {
        self.state().protocol.opened(incarnation, self.stopwatch.now());
        // Changes received while the cache is loaded are applied only after all scanned rows are in: a row from the
        // scan may be older and would undo them. Subscribers get them immediately. They need not wait for the cache,
        // which is not used yet: until the deadline is published, every request reads the store, which has the change.
        let mut early = Vec::new();
        let mut numbers = AuditNumbers::default();
        let loaded = {
            let (join_lease_received, receive) = oneshot::channel();
            let mut join_lease_received = Some(join_lease_received);
            let mut loading = std::pin::pin!(async {
                let joined = match self.store.is_shared() {
                    true => self.join(&join_lease, receive).await?,
                    false => LogTime::default(),
                };
                Ok::<_, StoreError>((self.load(joined).await?, joined))
            });
            loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    next = feed.next() => match next {
                        Some(Ok(change)) => {
                            if let Some(Err(error)) = change.entry.as_deref().map(|entry| numbers.check(entry)) {
                                return error;
                            }
                            if matches!(log_event(&change), LogEvent::Lease(lease) if lease == join_lease) {
                                // Fails if it has given up.
                                let _ = join_lease_received.take().map(|received| received.send(change.at));
                                continue;
                            }
                            let change = Arc::new(change);
                            notify_change(&change, notify);
                            early.push(change);
                        }
                        Some(Err(error)) => return error,
                        None => return feed_ended(),
                    },
                }
            }
        };
        let ((cache, leases), joined) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return error,
        };
        // Going live, in this order:
        // 1. Store the cache. Its deadline is 0, so every read still goes to the store.
        // 2. Pass the leases to the protocol, before any change. From here on it may send probes, which claim what was
        //    committed before this instance joined, and what was applied so far.
        // 3. Apply the early changes.
        // 4. Publish the deadline. A standalone process has one since step 2, and must not use a cache that lacks the
        //    early changes.
        // 5. Report as loaded, and so as ready, only when all this is done.
        self.cache.store(cache.clone());
        let cache = cache.as_deref();
        self.state().protocol.loaded(self.stopwatch.now(), joined, &leases);
        for change in early {
            self.apply(cache, &change);
        }
        self.publish_deadline(cache);
        self.loaded.store(true, Ordering::Release);
        self.newer_format.store(false, Ordering::Relaxed);
        self.run_due_and_reschedule();
        loop {
            match feed.next().await {
                Some(Ok(change)) => {
                    // Checked before anything else: a cache that lacks a change must not serve another request, and
                    // no probe may acknowledge what follows the gap.
                    if let Some(Err(error)) = change.entry.as_deref().map(|entry| numbers.check(entry)) {
                        return error;
                    }
                    // Applied before subscribers get it: a client that reacts to an event with a request to this
                    // instance must not be served from a cache without the change.
                    self.state().is_notifying = true;
                    self.apply(cache, &change);
                    self.publish_deadline(cache);
                    // Acknowledged before subscribers are woken, of which there may be thousands: others wait for it.
                    if self.run_due() {
                        tokio::task::yield_now().await;
                    }
                    notify_change(&Arc::new(change), notify);
                    self.state().is_notifying = false;
                    self.run_due_and_reschedule();
                }
                Some(Err(error)) => return error,
                None => return feed_ended(),
            }
        }
    }

    /// A lease that shows whether a new feed delivers what is committed. No instance waits for it: it is of length zero
    /// and acknowledges every change. Its incarnation is used for nothing else, so that a write of it that arrives late
    /// replaces no other lease.
    fn join_lease(&self) -> Lease {
        Lease {
            incarnation: Incarnation::generate(&mut **self.environment.rng()),
            sequence: 1,
            applied: LogTime::LAST,
            requests_ack: false,
            length: Some(Duration::ZERO),
        }
    }

    /// Puts the lease, waits until the feed has delivered it, and deletes it. Returns its position in the feed.
    ///
    /// A feed starts after the last entry of one member's log, which may be on a branch that is rolled back in a
    /// failover. The feed then resumes on the other branch and misses the start of it. Whatever it misses was committed
    /// before the first change that it delivers. So once it has delivered this lease, it delivers everything committed
    /// after the lease, and the rows that are read from then on include everything before.
    async fn join(
        self: &Arc<Self>,
        lease: &Lease,
        received: oneshot::Receiver<LogTime>,
    ) -> Result<LogTime, StoreError> {
        // A process that ends meanwhile, as most commands do, waits for the write and deletes the lease.
        self.state().last_lease.get_or_insert(*lease);
        let (coherence, sent) = (Arc::clone(self), *lease);
        let put = self.tasks.spawn(async move { coherence.store.put_lease(&sent).await });
        let joined = async {
            put.await.map_err(|error| StoreError::Unavailable(error.into()))??;
            received.await.map_err(|error| StoreError::Unavailable(error.into()))
        };
        let missed = || StoreError::Unavailable("the feed does not deliver a write of this instance".into());
        let joined = tokio::time::timeout(MAX_JOIN_WAIT, joined).await.unwrap_or_else(|_| Err(missed()));
        self.delete_lease(lease).await;
        joined
    }

    /// Reads all rows into a new cache, if this process has one, and then the leases of all instances.
    async fn load(&self, joined: LogTime) -> Result<(Option<Arc<Cache>>, Leases), StoreError> {
        let cache = self.has_cache().then(|| Arc::new(Cache::new(Arc::clone(&self.pending_uses))));
        if let Some(cache) = &cache {
            let mut rows = self.store.scan_rows().await?;
            while let Some(row) = rows.try_next().await? {
                cache.put_stored(&row);
            }
        }
        let leases = match self.store.is_shared() {
            true => self.list_leases(Listing::At(joined)).await?,
            false => Leases::default(),
        };
        Ok((cache, leases))
    }

    /// Applies the change to the cache, and only then to the protocol, whose next probe acknowledges it.
    fn apply(&self, cache: Option<&Cache>, change: &Change) {
        if let Some(cache) = cache {
            cache.apply(change);
        }
        self.state().protocol.applied(self.stopwatch.now(), change.at, log_event(change));
    }

    /// Allows reads of the cache until the protocol's deadline. Called only when every change that the protocol has
    /// received is in the cache.
    fn publish_deadline(&self, cache: Option<&Cache>) {
        let Some(cache) = cache else { return };
        if let Some(deadline) = self.state().protocol.deadline() {
            cache.deadline.store(deadline);
        }
    }

    /// Stops all reads of the cache before it does anything else, and drops it. Returns true if it had been loaded.
    fn drop_cache(self: &Arc<Self>) -> bool {
        let cache = self.cache.swap(None);
        if let Some(cache) = cache {
            cache.deadline.clear();
            self.take_over_uses(cache);
        }
        let was_loaded = {
            let mut state = self.state();
            state.is_notifying = false;
            state.protocol.lost()
        };
        self.metrics.losses.inc();
        self.run_due_and_reschedule();
        was_loaded
    }

    async fn run_timer(self: &Arc<Self>) -> std::convert::Infallible {
        let mut changes = self.changes();
        loop {
            let now = self.stopwatch.now();
            let wake_at = self.state().protocol.wake_at(now);
            let wait = wake_at.map_or(MAX_RETRY_DELAY, |at| now.until(at));
            let _ = tokio::time::timeout(wait, changes.changed()).await;
            self.run_due();
            if let Some(cache) = &*self.cache.load() {
                cache.names.evict(self.stopwatch.now());
            }
        }
    }

    /// Releases this instance's lease, so that other instances do not wait for it.
    async fn release_lease(self: &Arc<Self>) {
        self.drop_cache();
        self.tasks.close();
        self.tasks.wait().await;
        let last = self.state().last_lease.take();
        if let Some(lease) = last {
            self.delete_lease(&lease).await;
        }
    }
}

/// A change that is being committed and enforced. Dropping it abandons the wait.
pub struct Barrier {
    coherence: Arc<Coherence>,
    id: PendingChangeId,
    committed: Option<Moment>,
    enforced: oneshot::Receiver<Enforced>,
}

impl Barrier {
    /// Must be called as soon as the store has acknowledged the commit.
    pub fn committed(&mut self) {
        let now = self.coherence.stopwatch.now();
        self.committed = Some(now);
        self.coherence.state().protocol.committed(self.id, now);
        self.coherence.run_due_and_reschedule();
    }

    /// Waits until the change is enforced, for `limit` at most.
    pub async fn enforced(mut self, limit: Duration) -> Enforcement {
        match tokio::time::timeout(limit, &mut self.enforced).await {
            Ok(Ok(Enforced { elapsed, instances, .. })) => {
                self.coherence.metrics.enforcements.observe(elapsed.as_secs_f64());
                Enforcement { elapsed, instances, is_enforced: true, pending_until: None }
            }
            _ => {
                self.coherence.metrics.pending.inc();
                self.pending()
            }
        }
    }

    fn pending(&self) -> Enforcement {
        let Coherence { environment, stopwatch, .. } = &*self.coherence;
        let (now, since) = (stopwatch.now(), self.committed.unwrap_or(Moment::NEVER));
        let state = self.coherence.state();
        let bound = state.protocol.enforced_by(self.id, now);
        Enforcement {
            elapsed: now.since(since),
            instances: state.protocol.instances(),
            is_enforced: false,
            pending_until: bound.map(|bound| environment.now().plus(now.until(bound))),
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        let mut state = self.coherence.state();
        state.protocol.abandon(self.id);
        state.barriers.remove(&self.id);
    }
}

/// Passes a change to `notify`, unless it only concerns leases.
fn notify_change(change: &Arc<Change>, notify: &impl Fn(FeedEvent)) {
    let is_lease = |write: &Write| matches!(write.id(), RowId::Lease(_));
    if change.entry.is_some() || !change.writes.first().is_some_and(is_lease) {
        notify(FeedEvent::Change(Arc::clone(change)));
    }
}

fn log_event(change: &Change) -> LogEvent {
    match (&change.entry, change.writes.first()) {
        (Some(entry), _) => {
            LogEvent::Entry { id: entry.event.id, requires_ack: requires_ack(entry.event.action, &change.writes) }
        }
        (None, Some(Write::Put(Row::Lease(lease)))) => LogEvent::Lease(*lease),
        _ => LogEvent::Other,
    }
}

/// Returns true if the author of the change may be waiting until it is enforced. The exception is a sign-in that ended
/// sessions which were gone already: it waits for the next probes, since its entry is that of any sign-in.
fn requires_ack(action: AuditAction, writes: &[Write]) -> bool {
    match action {
        // A cache may have the old name, digest or external id for a moment: the verdict is the same.
        AuditAction::SystemRenamed | AuditAction::ExternalIdChanged | AuditAction::KeysRedigested => false,
        // Whatever was written: the response says that earlier changes are enforced, too, such as the revocation of the key
        // of a system that is then deleted.
        AuditAction::SessionsEnded
        | AuditAction::SignedOut
        | AuditAction::StoreRestored
        | AuditAction::SystemDeleted
        | AuditAction::SystemResumed
        | AuditAction::SystemSuspended
        | AuditAction::TenantDeleted => true,
        _ => writes.iter().any(outdates_caches),
    }
}

/// Returns true if a cache without this write could give a wrong result. A new session cannot: a session that is not
/// in the cache is looked up in the store.
fn outdates_caches(write: &Write) -> bool {
    match write {
        Write::Put(Row::Key(_) | Row::Operator(_) | Row::Tenant(_) | Row::Token(_)) => true,
        Write::Delete(RowId::Operator(_) | RowId::Session(_) | RowId::Tenant(_) | RowId::Token(_)) => true,
        Write::Put(_) | Write::Delete(_) => false,
    }
}

fn feed_ended() -> StoreError {
    StoreError::Unavailable("the feed ended".into())
}
