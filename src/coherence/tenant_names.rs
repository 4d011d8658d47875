//! The cached names of systems, by tenant, with what else lists are filtered and sorted by. A tenant's names are loaded
//! when an operator of the tenant first searches, and evicted when they are no longer used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::sync::watch;

use super::last_uses::CachedLastUses;
use super::locks::{read, write};
use super::name_index::NameIndex;
use crate::clock::Moment;
use crate::domain::changes::{Change, Row, RowId, Write};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::system_lists::ListedSystem;
use crate::store::{Store, StoreError};

/// Limit on the names of all tenants together, except those being loaded: some 2,500,000 systems.
pub(super) const MAX_NAME_BYTES: usize = 256 << 20;
/// Estimated size of a tenant's entry in the table and of its channel, counted in addition to its names.
const TENANT_BYTES: usize = 512;
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// A tenant's names are evicted after this long without a search.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
/// How long a search waits for the feed before it reads the store: many times what a change takes to arrive.
const MAX_FEED_WAIT: Duration = Duration::from_millis(100);
/// Changes kept while a tenant's names are loaded. If there are more, the load is given up.
const MAX_PENDING_CHANGES: usize = 100_000;
/// Systems loaded before other tasks get a turn.
pub(super) const SYSTEMS_PER_YIELD: usize = 1_000;

/// The names of the tenants whose operators search.
///
/// One tenant's names are loaded at a time. Changes of its systems that arrive during the load are kept, from before
/// the scan begins, so that the scan misses none. When the scan is done, those up to the entry that the scan is known to
/// contain are skipped, since they would restore older rows, and the others are applied in order. The scan may
/// already contain parts of a later entry; they are complete once that entry is applied, which every search that must
/// see the entry waits for.
pub struct TenantNames {
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    loaded: HashMap<TenantId, Arc<LoadedNames>>,
    loading: Option<Loading>,
    /// Tenants whose names exceed the limit, and when that was found.
    too_large: HashMap<TenantId, Moment>,
    last_eviction: Option<Moment>,
}

struct Loading {
    tenant: TenantId,
    /// Changes received since the load began; `None` after more than [`MAX_PENDING_CHANGES`], and the load fails.
    pending: Option<Vec<SystemChange>>,
}

/// The names of one tenant.
pub(super) struct LoadedNames {
    /// Searches take a snapshot and hold the lock only for that.
    names: RwLock<Arc<NameIndex>>,
    /// Number of the last audit entry that the names contain.
    applied: watch::Sender<u64>,
    /// Time of the last search, in nanoseconds of the boot clock.
    last_used: AtomicU64,
    pub(super) last_uses: CachedLastUses,
}

/// What one audit entry changed about systems.
struct SystemChange {
    number: u64,
    writes: Vec<SystemWrite>,
}

enum SystemWrite {
    Put(Box<ListedSystem>),
    Remove(SystemId),
}

impl SystemChange {
    fn new(number: u64, writes: &[Write]) -> Self {
        let writes = writes.iter().filter_map(|write| match write {
            Write::Put(Row::System(system)) => Some(SystemWrite::Put(Box::new(system.into()))),
            Write::Delete(RowId::System(id)) => Some(SystemWrite::Remove(*id)),
            _ => None,
        });
        Self { number, writes: writes.collect() }
    }

    fn apply(&self, names: &mut NameIndex) {
        for write in &self.writes {
            match write {
                SystemWrite::Put(system) => names.put(system),
                SystemWrite::Remove(id) => names.remove(*id),
            }
        }
    }
}

impl LoadedNames {
    /// Applies the change unless the names contain it. Returns false if a change before it is missing.
    fn apply(&self, change: &SystemChange) -> bool {
        let applied = *self.applied.borrow();
        if change.number == applied + 1 {
            if !change.writes.is_empty() {
                change.apply(Arc::make_mut(&mut write(&self.names)));
            }
            self.applied.send_replace(change.number);
        }
        change.number <= applied + 1
    }

    /// Waits until the names contain the audit entry of this number, and returns them; `None` after
    /// [`MAX_FEED_WAIT`].
    pub(super) async fn names_at(&self, number: u64) -> Option<Arc<NameIndex>> {
        let mut applied = self.applied.subscribe();
        let arrived = tokio::time::timeout(MAX_FEED_WAIT, applied.wait_for(|applied| *applied >= number)).await;
        matches!(arrived, Ok(Ok(_))).then(|| self.names())
    }

    fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        TENANT_BYTES + self.names().bytes() + self.last_uses.bytes()
    }

    fn names(&self) -> Arc<NameIndex> {
        Arc::clone(&read(&self.names))
    }
}

impl TenantNames {
    /// Names are evicted when all together take more than `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, inner: Mutex::default() }
    }

    /// Number of tenants whose names are loaded, and the bytes that the names take.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.loaded.len(), inner.bytes())
    }

    /// Applies the next change of the feed.
    pub(super) fn apply(&self, change: &Change) {
        let mut inner = self.inner();
        if change.has_foreign_system() {
            // It has no audit entry, by which searches recognize what the names contain: they are loaded again.
            inner.loaded.clear();
            if let Some(loading) = &mut inner.loading {
                loading.pending = None;
            }
        }
        let Some(entry) = &change.entry else { return };
        if let Some(loading) = inner.loading.as_mut().filter(|loading| loading.tenant == entry.tenant) {
            if let Some(pending) = &mut loading.pending {
                pending.push(SystemChange::new(entry.number, &change.writes));
            }
            loading.pending.take_if(|pending| pending.len() > MAX_PENDING_CHANGES);
        } else if let Some(loaded) = inner.loaded.get(&entry.tenant)
            && !loaded.apply(&SystemChange::new(entry.number, &change.writes))
        {
            // The feed delivers every entry, so this should not happen; if it does, the names are incomplete.
            inner.loaded.remove(&entry.tenant);
        }
    }

    /// Returns the tenant's names, if they are loaded, and marks them as used at `now`.
    pub(super) fn get(&self, tenant: &TenantId, now: Moment) -> Option<Arc<LoadedNames>> {
        let inner = self.inner();
        let loaded = inner.loaded.get(tenant)?;
        loaded.last_used.store(now.boot_nanos(), Ordering::Relaxed);
        Some(Arc::clone(loaded))
    }

    /// Begins a load, and with it the keeping of changes, until the returned guard is dropped. `None` if another load
    /// is running or these names were found to be too large.
    pub(super) fn begin_load(self: &Arc<Self>, tenant: &TenantId) -> Option<Load> {
        let mut inner = self.inner();
        if inner.loading.is_some() || inner.loaded.contains_key(tenant) || inner.too_large.contains_key(tenant) {
            return None;
        }
        inner.loading = Some(Loading { tenant: tenant.clone(), pending: Some(Vec::new()) });
        Some(Load { names: Arc::clone(self), tenant: tenant.clone() })
    }

    /// Evicts names that were not used for [`MAX_IDLE`], and then the least recently used until the rest is within the
    /// limit. Does nothing if called again within [`EVICTION_INTERVAL`].
    pub(super) fn evict(&self, now: Moment) {
        let mut inner = self.inner();
        if inner.last_eviction.is_some_and(|at| now.since(at) < EVICTION_INTERVAL) {
            return;
        }
        inner.last_eviction = Some(now);
        inner.too_large.retain(|_, found| now.since(*found) < MAX_IDLE);
        let idle = |loaded: &LoadedNames| Duration::from_nanos(now.boot_nanos().saturating_sub(loaded.last_used()));
        let is_idle = |loaded: &LoadedNames| idle(loaded) >= MAX_IDLE;
        let mut evicted: Vec<_> = inner.loaded.extract_if(|_, loaded| is_idle(loaded)).collect();
        let mut excess = inner.bytes().saturating_sub(self.max_bytes);
        if excess > 0 {
            let uses = inner.loaded.iter().map(|(tenant, loaded)| (loaded.last_used(), tenant.clone()));
            let mut by_last_use: Vec<_> = uses.collect();
            by_last_use.sort_unstable_by_key(|(last_used, _)| *last_used);
            for (_, tenant) in by_last_use {
                let Some(loaded) = inner.loaded.get(&tenant).filter(|_| excess > 0) else { break };
                excess = excess.saturating_sub(loaded.bytes());
                evicted.extend(inner.loaded.remove_entry(&tenant));
            }
        }
        // Unlocked first, so that the feed does not wait while `evicted` is freed.
        drop(inner);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.loaded.values().map(|loaded| loaded.bytes()).sum()
    }
}

/// A running load of one tenant's names. Only one exists at a time; dropping it ends the load.
pub(super) struct Load {
    names: Arc<TenantNames>,
    tenant: TenantId,
}

impl Load {
    pub(super) async fn run(self, store: &dyn Store, now: Moment) -> Result<(), StoreError> {
        let (number, mut systems) = store.scan_systems(&self.tenant).await?;
        let mut names = NameIndex::default();
        while let Some(system) = systems.try_next().await? {
            names.put(&system);
            if names.len() % SYSTEMS_PER_YIELD == 0 {
                if names.bytes() > self.names.max_bytes {
                    tracing::warn!(tenant = %self.tenant, "too many systems to cache their names; searching the store");
                    self.names.inner().too_large.insert(self.tenant.clone(), now);
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        }
        self.finish(names, number, now);
        Ok(())
    }

    /// Applies the kept changes to `names`, which contain everything up to the audit entry `number`, and publishes
    /// them.
    fn finish(&self, names: NameIndex, number: u64, now: Moment) {
        let loaded = LoadedNames {
            names: RwLock::new(Arc::new(names)),
            applied: watch::Sender::new(number),
            last_used: AtomicU64::new(now.boot_nanos()),
            last_uses: CachedLastUses::default(),
        };
        loop {
            let mut inner = self.names.inner();
            let Some(pending) = inner.loading.as_mut().and_then(|loading| loading.pending.as_mut()) else { return };
            let pending = std::mem::take(pending);
            if pending.is_empty() {
                // Under the same lock, or the next change would be neither kept nor applied.
                inner.loading = None;
                inner.loaded.insert(self.tenant.clone(), Arc::new(loaded));
                return;
            }
            // Unlocked first, so that the feed does not wait while the changes are applied.
            drop(inner);
            if !pending.iter().all(|change| loaded.apply(change)) {
                return;
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.names.inner().loading.take_if(|loading| loading.tenant == self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::super::last_uses::LastUses;
    use super::*;
    use crate::domain::system_lists::SystemFacts;
    use crate::domain::system_names::Search;
    use crate::domain::time::Timestamp;

    fn tenant(n: u64) -> TenantId {
        format!("tenant-{n}").parse().unwrap()
    }

    fn system(n: u8, name: &str) -> ListedSystem {
        let at = Timestamp::from_millis(i64::from(n));
        ListedSystem {
            id: SystemId::from_bytes([n; 16]),
            folded_name: name.to_owned(),
            folded_description: String::new(),
            folded_external_id: String::new(),
            facts: SystemFacts { updated_at: at, created_at: at, is_suspended: false, current: None, retiring: None },
        }
    }

    fn put(number: u64, n: u8, name: &str) -> SystemChange {
        SystemChange { number, writes: vec![SystemWrite::Put(Box::new(system(n, name)))] }
    }

    /// What [`TenantNames::apply`] does with a change of the tenant.
    fn apply(names: &TenantNames, change: SystemChange) {
        let mut inner = names.inner();
        match &mut inner.loading {
            Some(loading) => loading.pending.as_mut().unwrap().push(change),
            None => assert!(inner.loaded[&tenant(1)].apply(&change)),
        }
    }

    fn seconds(n: u64) -> Moment {
        Moment::START.plus(Duration::from_secs(n))
    }

    fn found(names: &Arc<TenantNames>, needle: &str) -> usize {
        names.get(&tenant(1), Moment::START).unwrap().names().count(&Search::parse(needle).into(), &LastUses::default())
    }

    #[tokio::test]
    async fn names_loaded_while_the_feed_changes_them_end_up_current() {
        let names = Arc::new(TenantNames::new(MAX_NAME_BYTES));
        let load = names.begin_load(&tenant(1)).unwrap();
        assert!(names.begin_load(&tenant(1)).is_none() && names.begin_load(&tenant(2)).is_none(), "one at a time");
        // The scan contains everything up to entry 7, and parts of 8 and 9. Entry 6 would restore an older row.
        apply(&names, put(6, 1, "old"));
        apply(&names, put(7, 1, "seven"));
        apply(&names, put(8, 2, "eight"));
        apply(&names, SystemChange { number: 9, writes: vec![SystemWrite::Remove(SystemId::from_bytes([3; 16]))] });
        let mut scanned = NameIndex::default();
        [system(1, "seven"), system(3, "nine removes it"), system(4, "stays")].iter().for_each(|row| scanned.put(row));
        load.finish(scanned, 7, Moment::START);
        drop(load);

        assert_eq!(["old", "seven", "eight", "nine", "stays"].map(|name| found(&names, name)), [0, 1, 1, 0, 1]);
        let loaded = names.get(&tenant(1), Moment::START).unwrap();
        assert_eq!(loaded.names_at(9).await.map(|names| names.len()), Some(3));
        apply(&names, put(10, 5, "ten"));
        assert_eq!(loaded.names_at(10).await.map(|names| names.len()), Some(4));
        assert!(!loaded.apply(&put(12, 6, "after a gap")));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_names_times_out_when_the_feed_lags() {
        let names = Arc::new(TenantNames::new(MAX_NAME_BYTES));
        names.begin_load(&tenant(1)).unwrap().finish(NameIndex::default(), 3, Moment::START);
        let loaded = names.get(&tenant(1), Moment::START).unwrap();
        assert!(loaded.names_at(3).await.is_some());
        assert!(loaded.names_at(4).await.is_none());
        let waiting = loaded.names_at(5);
        let applying = async { assert!(loaded.apply(&put(4, 1, "four")) && loaded.apply(&put(5, 2, "five"))) };
        assert_eq!(futures::join!(waiting, applying).0.map(|names| names.len()), Some(2));
    }

    #[test]
    fn too_many_pending_changes_abort_the_load() {
        let names = Arc::new(TenantNames::new(MAX_NAME_BYTES));
        let load = names.begin_load(&tenant(1)).unwrap();
        names.inner().loading.as_mut().unwrap().pending = None;
        load.finish(NameIndex::default(), 1, Moment::START);
        assert!(names.get(&tenant(1), Moment::START).is_none() && names.begin_load(&tenant(1)).is_none());
        drop(load);
        assert!(names.begin_load(&tenant(1)).is_some());
    }

    #[test]
    fn idle_names_are_evicted_and_then_the_least_recently_used() {
        let ten_names = || {
            let mut names = NameIndex::default();
            (0..10).for_each(|n| names.put(&system(n, &format!("system {n}"))));
            names
        };
        let names = Arc::new(TenantNames::new(3 * (TENANT_BYTES + ten_names().bytes()) + 10));
        for n in 0..5 {
            names.begin_load(&tenant(n)).unwrap().finish(ten_names(), 1, seconds(n));
        }
        names.get(&tenant(0), seconds(9));
        names.evict(seconds(10));
        let left = |names: &TenantNames| {
            let mut left: Vec<_> = names.inner().loaded.keys().map(ToString::to_string).collect();
            left.sort();
            left
        };
        assert_eq!(left(&names), ["tenant-0", "tenant-3", "tenant-4"], "the most recently used");
        names.evict(seconds(4 + MAX_IDLE.as_secs()));
        assert_eq!(left(&names), ["tenant-0"], "used within ten minutes");
        assert!(names.begin_load(&tenant(4)).is_some(), "evicted names can be loaded again");
        names.evict(seconds(9 + MAX_IDLE.as_secs()));
        assert_eq!(names.size(), (0, 0));
    }
}
