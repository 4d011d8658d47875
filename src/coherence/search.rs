//! Searches through the names of a tenant's systems: from the cache where it holds them, or else from the store.
//!
//! A lease guarantees that the cache contains every change that waited at a barrier, but creating or renaming a system
//! waits at none. So a search first reads from the store, by one look-up of one row, the number of the last entry in the
//! tenant's audit log, and waits until the cached names contain that entry. Entry numbers have no gaps, so the names
//! then contain every change whose response was sent before the search began. The rows of a page come from the store;
//! if one of the systems found has changed meanwhile, the search is repeated.

use std::collections::HashMap;
use std::sync::Arc;

use super::Coherence;
use super::name_index::NameIndex;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::pages::{Page, PageRequest};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::store::StoreError;

/// Attempts to load a page whose systems are changed meanwhile; then the store lists it.
const MAX_PAGE_ATTEMPTS: usize = 3;

impl Coherence {
    /// Same as [`SystemStore::list_systems`](crate::store::SystemStore::list_systems), but searches in the cache where it can.
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
            for _ in 0..MAX_PAGE_ATTEMPTS {
                let Some(names) = self.current_names(tenant).await? else { break };
                let (needle, page) = (needle.clone(), page.clone());
                let found = run_blocking(move || names.page(&needle, order, &page)).await?;
                let ids: Vec<_> = found.items.iter().map(|key| key.id).collect();
                let systems = self.store.find_systems(tenant, &ids).await?;
                if let Some(items) = in_page_order(systems, &found.items, search, order) {
                    return Ok(Page { items, has_more: found.has_more });
                }
            }
        }
        self.store.list_systems(tenant, search, order, page).await
    }

    /// Same as [`SystemStore::count_systems`](crate::store::SystemStore::count_systems), but counts in the cache where it can.
    pub async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64, StoreError> {
        if *search != Search::Nothing
            && let Some(names) = self.current_names(tenant).await?
        {
            let count = match search {
                Search::Containing(needle) if !needle.is_empty() => {
                    let needle = needle.clone();
                    run_blocking(move || names.count(&needle)).await?
                }
                _ => names.len(),
            };
            return Ok(count as u64);
        }
        self.store.count_systems(tenant, search).await
    }

    /// The tenant's names, with every change whose response was sent before this call. `None` if the store must be
    /// read: the cache is bypassed, the feed lags, or the names are not loaded, in which case loading starts.
    async fn current_names(&self, tenant: &TenantId) -> Result<Option<Arc<NameIndex>>, StoreError> {
        let now = self.stopwatch.now();
        let found = self.read(|cache| (cache.names.get(tenant, now), Arc::clone(&cache.names)));
        match found {
            None => Ok(None),
            Some((Some(loaded), _)) => Ok(loaded.names_at(self.store.audit_head(tenant).await?.number).await),
            Some((None, names)) => {
                if let Some(load) = names.begin_load(tenant) {
                    let store = Arc::clone(&self.store);
                    tokio::spawn(async move {
                        if let Err(error) = load.run(&*store, now).await {
                            tracing::debug!(%error, "system names not loaded");
                        }
                    });
                }
                Ok(None)
            }
        }
    }
}

/// Runs `work` on a blocking thread: a sweep through a million names takes milliseconds.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.into()))
}

/// The systems in the order of `keys`, or `None` if one of them is missing, sorts elsewhere now, or no longer matches.
fn in_page_order(
    systems: Vec<System>,
    keys: &[SystemSortKey],
    search: &Search,
    order: SystemOrder,
) -> Option<Vec<System>> {
    let mut systems: HashMap<SystemId, System> = systems.into_iter().map(|system| (system.id, system)).collect();
    let is_current = |key: &SystemSortKey, system: &System| {
        order.field.key_of(system) == *key && search.matches(&system.name.folded())
    };
    keys.iter().map(|key| systems.remove(&key.id).filter(|system| is_current(key, system))).collect()
}
