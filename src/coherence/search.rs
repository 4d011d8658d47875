//! Lists of a tenant's systems: from the cache where it holds the tenant's names, or else from the store.
//!
//! A lease guarantees that the cache contains every change that waited at a barrier, but creating or renaming a system
//! waits at none. So a search first reads from the store, by one look-up of one row, the number of the last entry in the
//! tenant's audit log, and waits until the cached names contain that entry. Entry numbers have no gaps, so the names
//! then contain every change whose response was sent before the search began. The rows of a page come from the store;
//! if one of the systems found has changed meanwhile, the search is repeated.
//!
//! Stores list and search in the orders that they have an index of. Every other list is a sweep through an index: if the
//! tenant's names are not cached, one that is built for the request from a scan of the store. A list of systems that are named
//! one by one needs neither: they are looked up, and only they are in the index that is built for the request.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;

use super::Coherence;
use super::last_uses::LastUses;
use super::name_index::NameIndex;
use super::tenant_names::{LoadedNames, SYSTEMS_PER_YIELD};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::system_lists::{ListOrder, ListedSystem, Selection, SystemQuery};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemSortKey};
use crate::store::StoreError;

/// Attempts to load a page whose systems are changed meanwhile.
const MAX_PAGE_ATTEMPTS: usize = 3;

/// What a list is found in.
struct Snapshot {
    names: Arc<NameIndex>,
    /// Empty unless the query reads them.
    uses: Arc<LastUses>,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Cache,
    Scan,
}

/// Whether to wait while the names are loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loading {
    Wait,
    Continue,
}

impl Coherence {
    /// Returns the tenant's systems that match, with their positions in this order.
    ///
    /// A system that is changed during the call may be missing, or at its position from before. Uses are as old as the
    /// cached ones.
    pub async fn list_systems(
        &self,
        tenant: &TenantId,
        query: &SystemQuery,
        order: ListOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<(SystemSortKey, System)>, StoreError> {
        if query.search == Search::Nothing {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        if !query.selection.is_of_all() {
            let (systems, names, uses) = self.select(tenant, query, order).await?;
            let Page { items, has_more } = names.page(query, &uses, order, page);
            let (items, _) = in_page_order(systems, items, query, order, &uses);
            return Ok(Page { items, has_more });
        }
        // The order in which the store can list what is requested, if it can.
        let stored = order.stored().filter(|_| query.filter.is_empty());
        if stored.is_none() || !query.is_of_all() {
            for attempt in 1..=MAX_PAGE_ATTEMPTS {
                let loading = if stored.is_some() { Loading::Continue } else { Loading::Wait };
                let snapshot = match self.cached(tenant, query, order, loading).await? {
                    Some(snapshot) => snapshot,
                    None if stored.is_some() => break,
                    None => self.scan(tenant, query, order).await?,
                };
                let found = {
                    let (names, uses) = (Arc::clone(&snapshot.names), Arc::clone(&snapshot.uses));
                    let (query, page) = (query.clone(), page.clone());
                    run_blocking(move || names.page(&query, &uses, order, &page)).await?
                };
                let ids: Vec<_> = found.items.iter().map(|key| key.id).collect();
                let systems = self.store.find_systems(tenant, &ids).await?;
                let (items, is_current) = in_page_order(systems, found.items, query, order, &snapshot.uses);
                let is_last = snapshot.source == Source::Scan || attempt == MAX_PAGE_ATTEMPTS && stored.is_none();
                if is_current || is_last {
                    return Ok(Page { items, has_more: found.has_more });
                }
            }
        }
        let stored = stored.unwrap_or_default();
        let Page { items, has_more } = self.store.list_systems(tenant, &query.search, stored, page).await?;
        let items = items.into_iter().map(|system| (stored.field.key_of(&system), system)).collect();
        Ok(Page { items, has_more })
    }

    /// Returns the number of the tenant's systems that match.
    pub async fn count_systems(&self, tenant: &TenantId, query: &SystemQuery) -> Result<u64, StoreError> {
        if query.search == Search::Nothing {
            return Ok(0);
        }
        if !query.selection.is_of_all() {
            let (_, names, uses) = self.select(tenant, query, ListOrder::default()).await?;
            return Ok(names.count(query, &uses) as u64);
        }
        if query.is_of_all() && !self.store.is_shared() {
            // The embedded store has the number.
            return self.store.count_systems(tenant, &query.search).await;
        }
        let is_stored = query.filter.is_empty();
        let loading = if is_stored { Loading::Continue } else { Loading::Wait };
        let snapshot = match self.cached(tenant, query, ListOrder::default(), loading).await? {
            Some(snapshot) => snapshot,
            None if is_stored => return self.store.count_systems(tenant, &query.search).await,
            None => self.scan(tenant, query, ListOrder::default()).await?,
        };
        if query.is_of_all() {
            return Ok(snapshot.names.len() as u64);
        }
        let query = query.clone();
        let count = run_blocking(move || snapshot.names.count(&query, &snapshot.uses)).await?;
        Ok(count as u64)
    }

    /// The tenant's names, with every change whose response was sent before this call. `None` if the store must be
    /// read: the cache is bypassed, the feed lags, or the names are not loaded, in which case loading starts.
    async fn cached(
        &self,
        tenant: &TenantId,
        query: &SystemQuery,
        order: ListOrder,
        loading: Loading,
    ) -> Result<Option<Snapshot>, StoreError> {
        let Some(loaded) = self.loaded_names(tenant, loading).await else { return Ok(None) };
        let head = self.store.audit_head(tenant).await?.number;
        let Some(names) = loaded.names_at(head).await else { return Ok(None) };
        let uses = if query.reads_use(order) {
            let now = (self.stopwatch.now(), self.environment.now());
            loaded.last_uses.get(&*self.store, tenant, now).await?
        } else {
            Arc::default()
        };
        Ok(Some(Snapshot { names, uses, source: Source::Cache }))
    }

    async fn loaded_names(&self, tenant: &TenantId, loading: Loading) -> Option<Arc<LoadedNames>> {
        let now = self.stopwatch.now();
        let (loaded, names) = self.read(|cache| (cache.names.get(tenant, now), Arc::clone(&cache.names)))?;
        if loaded.is_some() {
            return loaded;
        }
        let load = names.begin_load(tenant)?;
        let store = Arc::clone(&self.store);
        let running = tokio::spawn(async move {
            if let Err(error) = load.run(&*store, now).await {
                tracing::debug!(%error, "system names not loaded");
            }
        });
        if loading == Loading::Continue || running.await.is_err() {
            return None;
        }
        names.get(tenant, now)
    }

    /// Looks up the systems that are selected, and their last uses if the query reads them.
    async fn select(
        &self,
        tenant: &TenantId,
        query: &SystemQuery,
        order: ListOrder,
    ) -> Result<(Vec<System>, NameIndex, LastUses), StoreError> {
        let mut systems = match &query.selection {
            Selection { external_id: Some(external_id), .. } => {
                Vec::from_iter(self.store.find_system_by_external_id(tenant, external_id).await?)
            }
            Selection { ids, .. } => self.store.find_systems(tenant, ids.as_deref().unwrap_or_default()).await?,
        };
        systems.retain(|system| query.selection.contains(system));
        let uses = if query.reads_use(order) {
            let ids: Vec<_> = systems.iter().map(|system| system.id).collect();
            let summaries = self.store.find_usage_summaries(tenant, &ids).await?;
            let uses = summaries.into_iter().filter_map(|summary| Some((summary.system, summary.last_used_at?)));
            LastUses::new(uses.collect())
        } else {
            LastUses::default()
        };
        let mut names = NameIndex::default();
        systems.iter().for_each(|system| names.put(&system.into()));
        Ok((systems, names, uses))
    }

    /// Reads the systems that match from the store.
    async fn scan(&self, tenant: &TenantId, query: &SystemQuery, order: ListOrder) -> Result<Snapshot, StoreError> {
        let uses =
            if query.reads_use(order) { LastUses::load(&*self.store, tenant).await? } else { LastUses::default() };
        let (_, mut systems) = self.store.scan_systems(tenant).await?;
        let mut names = NameIndex::default();
        let mut scanned = 0;
        while let Some(system) = systems.try_next().await? {
            // One that is changed meanwhile may be returned twice.
            if query.matches(&system, uses.find(system.id)) {
                names.put(&system);
            } else {
                names.remove(system.id);
            }
            scanned += 1;
            if scanned % SYSTEMS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Snapshot { names: Arc::new(names), uses: Arc::new(uses), source: Source::Scan })
    }
}

/// Runs `work` on a blocking thread: a sweep through a million names takes milliseconds.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.into()))
}

/// Returns the systems that still match, in the order of `keys`, and whether they are what `keys` are of: none is
/// missing, and none sorts elsewhere now.
fn in_page_order(
    systems: Vec<System>,
    keys: Vec<SystemSortKey>,
    query: &SystemQuery,
    order: ListOrder,
    uses: &LastUses,
) -> (Vec<(SystemSortKey, System)>, bool) {
    let mut systems: HashMap<SystemId, System> = systems.into_iter().map(|system| (system.id, system)).collect();
    let mut is_current = true;
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        let used = uses.find(key.id);
        let system = systems.remove(&key.id).filter(|system| query.matches(&ListedSystem::from(system), used));
        is_current &= system.as_ref().is_some_and(|system| order.key_of(system, used) == key);
        items.extend(system.map(|system| (key, system)));
    }
    (items, is_current)
}
