//! Searches through systems: from names in memory, loaded for a tenant when somebody searches there.
//!
//! A lease says that memory has every change that waited for it, and creating or renaming a system waits for nobody.
//! So a search asks the store first where the tenant's log ends, by one look-up of one row: the log has no gaps, and
//! whoever has applied its entry of this number has all that was answered before. Pages hold what the store has of the
//! systems found; one that has changed meanwhile makes the page be looked up anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::sync::watch;

use super::Coherence;
use super::name_index::NameIndex;
use crate::clock::Moment;
use crate::domain::changes::{Change, Row, RowId, Write};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::system_names::Search;
use crate::domain::systems::{ListedSystem, System, SystemOrder, SystemSortKey};
use crate::store::{Store, StoreError};

/// Bytes that the names of all tenants may take, besides those that are being loaded: some 4,000,000 systems.
pub const MOST_BYTES: usize = 256 << 20;
/// Counted for each tenant besides its names: about what its place in the table and its channel take.
const TENANT_BYTES: usize = 512;
/// How often it is looked at what can be dropped.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A tenant's names are dropped when nobody has searched through them for this long.
pub const UNUSED: Duration = Duration::from_secs(10 * 60);
/// How long a search waits for the feed: many times what a change takes to arrive. Then the store is asked.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often a page is looked up anew because systems on it were changed.
const TRIES: usize = 3;
/// Changes that may come while names are loaded.
const MOST_PENDING: usize = 100_000;
/// Systems that are loaded at once before others have their turn.
const LOADED_AT_ONCE: usize = 1_000;

/// The names of the tenants where somebody searches.
///
/// One tenant's are loaded at a time. While they are, changes of its systems are kept aside, from before the scan
/// begins: what the scan does not see is among them. Those up to the entry that the scan knows are left out, since
/// they would put rows back to what they were; all others are applied in the feed's order. A state that the scan saw
/// too early is then gone before a search that was told of its entry looks.
pub struct TenantNames {
    most_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: HashMap<TenantId, Arc<Known>>,
    loading: Option<Loading>,
    /// Tenants with more names than there is room for, and when that was found.
    too_large: HashMap<TenantId, Moment>,
    /// When it was looked at last what can be dropped.
    looked_at: Option<Moment>,
}

struct Loading {
    tenant: TenantId,
    /// What the feed has told since it began. `None` when that was too much: then it comes to nothing.
    pending: Option<Vec<SystemChange>>,
}

/// The names of one tenant.
struct Known {
    /// Whoever searches takes a snapshot, and holds the lock no longer than that.
    names: RwLock<Arc<NameIndex>>,
    /// The number of the last entry that is in the names.
    applied: watch::Sender<u64>,
    /// When somebody searched last, as nanoseconds of the stopwatch.
    used: AtomicU64,
}

/// What an entry of the log did to systems.
struct SystemChange {
    number: u64,
    writes: Vec<SystemWrite>,
}

enum SystemWrite {
    Put(ListedSystem),
    Remove(SystemId),
}

impl SystemChange {
    fn of(number: u64, writes: &[Write]) -> Self {
        let writes = writes.iter().filter_map(|write| match write {
            Write::Put(Row::System(system)) => Some(SystemWrite::Put(system.into())),
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

impl Known {
    /// Whether it follows on what was applied before.
    fn apply(&self, change: &SystemChange) -> bool {
        let applied = *self.applied.borrow();
        if change.number == applied + 1 {
            if !change.writes.is_empty() {
                change.apply(Arc::make_mut(&mut self.names.write().expect(NO_PANIC)));
            }
            self.applied.send_replace(change.number);
        }
        change.number <= applied + 1
    }

    /// The names with everything up to this entry, as soon as that has come.
    async fn with(&self, number: u64) -> Option<Arc<NameIndex>> {
        let mut applied = self.applied.subscribe();
        let arrived = tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= number)).await;
        matches!(arrived, Ok(Ok(_))).then(|| self.names())
    }

    fn used(&self) -> Moment {
        Moment::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn bytes(&self) -> usize {
        TENANT_BYTES + self.names().bytes()
    }

    fn names(&self) -> Arc<NameIndex> {
        Arc::clone(&self.names.read().expect(NO_PANIC))
    }
}

/// NameIndex that a panic left half written must answer nothing.
const NO_PANIC: &str = "no writer panics while it holds the lock";

impl TenantNames {
    /// Drops names as soon as all together have more bytes than this.
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, inner: Mutex::default() }
    }

    /// How many tenants' names there are, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.known.len(), inner.bytes())
    }

    /// Takes in what the feed tells, in its order.
    pub(super) fn apply(&self, change: &Change) {
        let Some(entry) = &change.entry else { return };
        let mut inner = self.inner();
        if let Some(loading) = inner.loading.as_mut().filter(|loading| loading.tenant == entry.tenant) {
            if let Some(pending) = &mut loading.pending {
                pending.push(SystemChange::of(entry.number, &change.writes));
            }
            loading.pending.take_if(|pending| pending.len() > MOST_PENDING);
        } else if let Some(known) = inner.known.get(&entry.tenant)
            && !known.apply(&SystemChange::of(entry.number, &change.writes))
        {
            // A gap cannot be; names that have one are no longer right.
            inner.known.remove(&entry.tenant);
        }
    }

    /// The tenant's names, used now.
    fn get(&self, tenant: &TenantId, now: Moment) -> Option<Arc<Known>> {
        let inner = self.inner();
        let known = inner.known.get(tenant)?;
        known.used.store(now.as_nanos(), Ordering::Relaxed);
        Some(Arc::clone(known))
    }

    /// Begins to load, unless names are being loaded or there is no room for these. Changes are kept aside from here
    /// on, until the load is dropped.
    fn begin(self: &Arc<Self>, tenant: &TenantId) -> Option<Load> {
        let mut inner = self.inner();
        if inner.loading.is_some() || inner.known.contains_key(tenant) || inner.too_large.contains_key(tenant) {
            return None;
        }
        inner.loading = Some(Loading { tenant: tenant.clone(), pending: Some(Vec::new()) });
        Some(Load { names: Arc::clone(self), tenant: tenant.clone() })
    }

    /// Drops what was not used for long, and then what was not used for longest, until the rest has room.
    pub(super) fn drop_unused(&self, now: Moment) {
        let mut inner = self.inner();
        if inner.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        inner.looked_at = Some(now);
        inner.too_large.retain(|_, found| now.since(*found) < UNUSED);
        let mut dropped: Vec<_> = inner.known.extract_if(|_, known| now.since(known.used()) >= UNUSED).collect();
        let mut excess = inner.bytes().saturating_sub(self.most_bytes);
        if excess > 0 {
            let mut by_use: Vec<_> = inner.known.iter().map(|(tenant, known)| (known.used(), tenant.clone())).collect();
            by_use.sort_unstable_by_key(|(used, _)| *used);
            for (_, tenant) in by_use {
                let Some(known) = inner.known.get(&tenant).filter(|_| excess > 0) else { break };
                excess = excess.saturating_sub(known.bytes());
                dropped.extend(inner.known.remove_entry(&tenant));
            }
        }
        // The feed does not wait until all this is freed.
        drop(inner);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.known.values().map(|known| known.bytes()).sum()
    }
}

/// The loading of one tenant's names: there is one at a time.
struct Load {
    names: Arc<TenantNames>,
    tenant: TenantId,
}

impl Load {
    async fn run(self, store: &dyn Store, now: Moment) -> Result<(), StoreError> {
        let (number, mut systems) = store.scan_systems(&self.tenant).await?;
        let mut names = NameIndex::default();
        while let Some(system) = systems.try_next().await? {
            names.put(&system);
            if names.len() % LOADED_AT_ONCE == 0 {
                if names.bytes() > self.names.most_bytes {
                    tracing::warn!(tenant = %self.tenant, "too many systems to be searched in memory");
                    self.names.inner().too_large.insert(self.tenant.clone(), now);
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        }
        self.finish(names, number, now);
        Ok(())
    }

    /// Brings the names, which have everything up to the entry of this number, to where the feed is.
    fn finish(&self, names: NameIndex, number: u64, now: Moment) {
        let known = Known {
            names: RwLock::new(Arc::new(names)),
            applied: watch::Sender::new(number),
            used: AtomicU64::new(now.as_nanos()),
        };
        loop {
            let mut inner = self.names.inner();
            let Some(pending) = inner.loading.as_mut().and_then(|loading| loading.pending.as_mut()) else { return };
            let pending = std::mem::take(pending);
            if pending.is_empty() {
                // At once, or the next change would be kept aside for nobody.
                inner.loading = None;
                inner.known.insert(self.tenant.clone(), Arc::new(known));
                return;
            }
            // The feed does not wait for this.
            drop(inner);
            if !pending.iter().all(|change| known.apply(change)) {
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

impl Coherence {
    /// [`Store::list_systems`], from memory where that is faster.
    pub async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>, StoreError> {
        if let Search::Containing(needle) = search
            && !needle.is_empty()
        {
            for _ in 0..TRIES {
                let Some(names) = self.names_of(tenant).await? else { break };
                let (needle, page) = (needle.clone(), page.clone());
                let found = apart(move || names.page(&needle, order, &page)).await?;
                let ids: Vec<_> = found.items.iter().map(|place| place.id).collect();
                let systems = self.store.find_systems(tenant, &ids).await?;
                if let Some(items) = as_found(systems, &found.items, search, order) {
                    return Ok(Page { items, has_more: found.has_more });
                }
            }
        }
        self.store.list_systems(tenant, search, order, page).await
    }

    /// [`Store::count_systems`], from memory where that is faster.
    pub async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64, StoreError> {
        if *search != Search::Nothing
            && let Some(names) = self.names_of(tenant).await?
        {
            let count = match search {
                Search::Containing(needle) if !needle.is_empty() => {
                    let needle = needle.clone();
                    apart(move || names.count(&needle)).await?
                }
                _ => names.len(),
            };
            return Ok(count as u64);
        }
        self.store.count_systems(tenant, search).await
    }

    /// The tenant's names, with everything that was answered before this call. `None` when the store has to be asked:
    /// the feed is not trusted or late, or the names are not loaded, which then begins.
    async fn names_of(&self, tenant: &TenantId) -> Result<Option<Arc<NameIndex>>, StoreError> {
        let now = self.stopwatch.now();
        let found = self.read(|memory| (memory.names.get(tenant, now), Arc::clone(&memory.names)));
        match found {
            None => Ok(None),
            Some((Some(known), _)) => Ok(known.with(self.store.audit_head(tenant).await?.number).await),
            Some((None, names)) => {
                if let Some(load) = names.begin(tenant) {
                    let store = Arc::clone(&self.store);
                    tokio::spawn(async move {
                        if let Err(error) = load.run(&*store, now).await {
                            tracing::debug!(%error, "names could not be loaded");
                        }
                    });
                }
                Ok(None)
            }
        }
    }
}

/// Works on a thread that may take its time: a sweep through a million names takes milliseconds.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.into()))
}

/// The systems at these places, if each one stands there still and matches.
fn as_found(
    systems: Vec<System>,
    places: &[SystemSortKey],
    search: &Search,
    order: SystemOrder,
) -> Option<Vec<System>> {
    let mut systems: HashMap<SystemId, System> = systems.into_iter().map(|system| (system.id, system)).collect();
    let stands = |place: &SystemSortKey, system: &System| {
        order.field.key_of(system) == *place && search.matches(&system.name.folded())
    };
    places.iter().map(|place| systems.remove(&place.id).filter(|system| stands(place, system))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn tenant(n: u64) -> TenantId {
        format!("tenant-{n}").parse().unwrap()
    }

    fn system(n: u8, name: &str) -> ListedSystem {
        let at = Timestamp::from_millis(i64::from(n));
        ListedSystem { id: SystemId::from_bytes([n; 16]), folded_name: name.to_owned(), updated_at: at, created_at: at }
    }

    fn put(number: u64, n: u8, name: &str) -> SystemChange {
        SystemChange { number, writes: vec![SystemWrite::Put(system(n, name))] }
    }

    /// As the feed does it, but for the entry around the change.
    fn tell(names: &TenantNames, change: SystemChange) {
        let mut inner = names.inner();
        match &mut inner.loading {
            Some(loading) => loading.pending.as_mut().unwrap().push(change),
            None => assert!(inner.known[&tenant(1)].apply(&change)),
        }
    }

    fn seconds(n: u64) -> Moment {
        Moment::START.plus(Duration::from_secs(n))
    }

    fn found(names: &Arc<TenantNames>, needle: &str) -> usize {
        names.get(&tenant(1), Moment::START).unwrap().names().count(needle)
    }

    #[tokio::test]
    async fn a_load_that_races_the_feed_ends_with_what_the_feed_says() {
        let names = Arc::new(TenantNames::new(MOST_BYTES));
        let load = names.begin(&tenant(1)).unwrap();
        assert!(names.begin(&tenant(1)).is_none() && names.begin(&tenant(2)).is_none(), "one at a time");
        // The scan knows entry 7. Rows of 6 would undo what it saw; of 8 and 9 it saw a part.
        tell(&names, put(6, 1, "old"));
        tell(&names, put(7, 1, "seven"));
        tell(&names, put(8, 2, "eight"));
        tell(&names, SystemChange { number: 9, writes: vec![SystemWrite::Remove(SystemId::from_bytes([3; 16]))] });
        let mut scanned = NameIndex::default();
        [system(1, "seven"), system(3, "nine removes it"), system(4, "stays")].iter().for_each(|row| scanned.put(row));
        load.finish(scanned, 7, Moment::START);
        drop(load);

        assert_eq!(["old", "seven", "eight", "nine", "stays"].map(|name| found(&names, name)), [0, 1, 1, 0, 1]);
        let known = names.get(&tenant(1), Moment::START).unwrap();
        assert_eq!(known.with(9).await.map(|names| names.len()), Some(3));
        tell(&names, put(10, 5, "ten"));
        assert_eq!(known.with(10).await.map(|names| names.len()), Some(4));
        assert!(!known.apply(&put(12, 6, "after a gap")));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_feed_in_vain_is_told_so() {
        let names = Arc::new(TenantNames::new(MOST_BYTES));
        names.begin(&tenant(1)).unwrap().finish(NameIndex::default(), 3, Moment::START);
        let known = names.get(&tenant(1), Moment::START).unwrap();
        assert!(known.with(3).await.is_some());
        assert!(known.with(4).await.is_none());
        let waiting = known.with(5);
        let telling = async { assert!(known.apply(&put(4, 1, "four")) && known.apply(&put(5, 2, "five"))) };
        assert_eq!(futures::join!(waiting, telling).0.map(|names| names.len()), Some(2));
    }

    #[test]
    fn too_many_changes_bring_a_load_to_nothing() {
        let names = Arc::new(TenantNames::new(MOST_BYTES));
        let load = names.begin(&tenant(1)).unwrap();
        names.inner().loading.as_mut().unwrap().pending = None;
        load.finish(NameIndex::default(), 1, Moment::START);
        assert!(names.get(&tenant(1), Moment::START).is_none() && names.begin(&tenant(1)).is_none());
        drop(load);
        assert!(names.begin(&tenant(1)).is_some());
    }

    #[test]
    fn names_that_nobody_uses_are_dropped_and_the_rest_is_bounded() {
        let of_ten = || {
            let mut names = NameIndex::default();
            (0..10).for_each(|n| names.put(&system(n, &format!("system {n}"))));
            names
        };
        let names = Arc::new(TenantNames::new(3 * (TENANT_BYTES + of_ten().bytes()) + 10));
        for n in 0..5 {
            names.begin(&tenant(n)).unwrap().finish(of_ten(), 1, seconds(n));
        }
        names.get(&tenant(0), seconds(9));
        names.drop_unused(seconds(10));
        let left = |names: &TenantNames| {
            let mut left: Vec<_> = names.inner().known.keys().map(ToString::to_string).collect();
            left.sort();
            left
        };
        assert_eq!(left(&names), ["tenant-0", "tenant-3", "tenant-4"], "those used last");
        names.drop_unused(seconds(4 + UNUSED.as_secs()));
        assert_eq!(left(&names), ["tenant-0"], "those used within ten minutes");
        assert!(names.begin(&tenant(4)).is_some(), "they can be loaded again");
        names.drop_unused(seconds(9 + UNUSED.as_secs()));
        assert_eq!(names.size(), (0, 0));
    }
}
