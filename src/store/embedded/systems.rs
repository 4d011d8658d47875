//! Look-ups, lists and counts of systems.

use std::collections::HashMap;
use std::ops::Bound;

use async_trait::async_trait;
use redb::ReadableTable;
use serde::Deserialize;

use super::errors::storage;
use super::snapshot::{Snapshot, page_of};
use super::store::{EmbeddedStore, Progress};
use super::tables::{
    IndexKey, SYSTEM_COUNTS, SYSTEMS, SYSTEMS_BY_EXTERNAL_ID, SYSTEMS_BY_NAME, bound, decode, index_of,
    is_first_format, successor,
};
use crate::domain::audit::AuditFilter;
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::system_names::Search;
use crate::domain::systems::{Direction, System, SystemOrder, SystemOrderField, SystemSortKey};
use crate::domain::texts::Description;
use crate::store::errors::skip_unreadable;
use crate::store::{AuditStore, Page, PageEnd, PageRequest, Result, StoreError, SystemState, SystemStore};

#[async_trait]
impl SystemStore for EmbeddedStore {
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.read(|snapshot| snapshot.get(SYSTEMS, (tenant.as_str(), id.to_string().as_str())))
    }

    async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState> {
        if let Some(system) = self.find_system(tenant, id).await? {
            return Ok(SystemState::Present(system));
        }
        let deletions = self.count_audit(tenant, &AuditFilter::deletion_of(id)).await?;
        Ok(if deletions > 0 { SystemState::Deleted } else { SystemState::Unknown })
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        self.read(|snapshot| snapshot.find_systems(tenant, ids))
    }

    async fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>> {
        self.read(|snapshot| snapshot.find_system_by_external_id(tenant, external_id))
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        if *search == Search::All {
            return self.read(|snapshot| snapshot.list_systems(tenant, search, order, page, &mut Progress::default()));
        }
        let (tenant, search, page) = (tenant.clone(), search.clone(), page.clone());
        self.scan_blocking(move |snapshot, progress| snapshot.list_systems(&tenant, &search, order, &page, progress))
            .await
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        if *search == Search::All {
            return self.read(|snapshot| snapshot.count_systems(tenant, search, &mut Progress::default()));
        }
        let (tenant, search) = (tenant.clone(), search.clone());
        self.scan_blocking(move |snapshot, progress| snapshot.count_systems(&tenant, &search, progress)).await
    }

    async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>> {
        self.read_blocking(|snapshot| {
            let counts = snapshot.0.open_table(SYSTEM_COUNTS).map_err(storage)?;
            let rows = counts.iter().map_err(storage)?.map(|row| {
                let (tenant, count) = row.map_err(storage)?;
                let tenant = tenant.value().parse();
                Ok((tenant.map_err(|_| StoreError::Corrupt("a malformed tenant id".into()))?, count.value()))
            });
            rows.filter(|row| row.as_ref().map_or(true, |(_, count)| *count > 0)).collect()
        })
        .await
    }
}

impl Snapshot {
    fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row = systems.get((tenant.as_str(), id.to_string().as_str())).map_err(storage)?;
            let system = row.map(|row| skip_unreadable(decode::<System>(row.value()))).transpose()?;
            found.extend(system.flatten());
        }
        Ok(found)
    }

    fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>> {
        let index = self.0.open_table(SYSTEMS_BY_EXTERNAL_ID).map_err(storage)?;
        let id = index.get((tenant.as_str(), external_id.as_str())).map_err(storage)?;
        let Some(id) = id.and_then(|id| id.value().parse().ok()) else { return Ok(None) };
        Ok(self.find_systems(tenant, &[id])?.pop())
    }

    fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
        progress: &mut Progress,
    ) -> Result<Page<System>> {
        if *search == Search::Nothing {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let tenant = tenant.as_str();
        let index = self.0.open_table(index_of(order.field)).map_err(storage)?;
        // The index by name holds the systems themselves; the others refer to them.
        let systems = match order.field {
            SystemOrderField::Name => None,
            SystemOrderField::UpdatedAt | SystemOrderField::CreatedAt => {
                Some(self.0.open_table(SYSTEMS).map_err(storage)?)
            }
        };
        let (after, before) = (page.after.as_ref().map(IndexKey::of), page.before.as_ref().map(IndexKey::of));
        let (low, high) = match order.direction {
            Direction::Ascending => (after, before),
            Direction::Descending => (before, after),
        };
        let end = successor(tenant);
        let low = bound(low.as_ref().map(|place| place.key(tenant)), Bound::Included((tenant, &[][..], "")));
        let high = bound(high.as_ref().map(|place| place.key(tenant)), Bound::Excluded((end.as_str(), &[][..], "")));
        if is_empty(&low, &high) {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let upwards = (order.direction == Direction::Ascending) == (page.from == PageEnd::First);
        let mut rows = index.range((low, high)).map_err(storage)?;
        let mut step = || if upwards { rows.next() } else { rows.next_back() };
        let mut items = Vec::with_capacity(page.limit.min(256));
        while let Some(row) = step() {
            progress.row()?;
            let (key, value) = row.map_err(storage)?;
            let (_, sort, id) = key.value();
            let system = match &systems {
                None => {
                    if !is_found(search, sort, value.value())? {
                        continue;
                    }
                    skip_unreadable(decode(value.value()))?
                }
                Some(systems) => {
                    let row = systems.get((tenant, id)).map_err(storage)?;
                    let row = row.ok_or_else(|| StoreError::Corrupt("an index refers to a missing system".into()))?;
                    let system: Option<System> = skip_unreadable(decode(row.value()))?;
                    system.filter(|system| *search == Search::All || system.is_found_by(search))
                }
            };
            let Some(system) = system else { continue };
            if items.len() == page.limit {
                return Ok(page_of(items, true, page.from));
            }
            items.push(system);
        }
        Ok(page_of(items, false, page.from))
    }

    fn count_systems(&self, tenant: &TenantId, search: &Search, progress: &mut Progress) -> Result<u64> {
        let tenant = tenant.as_str();
        match search {
            Search::Nothing => Ok(0),
            Search::All => {
                let counts = self.0.open_table(SYSTEM_COUNTS).map_err(storage)?;
                Ok(counts.get(tenant).map_err(storage)?.map_or(0, |count| count.value()))
            }
            Search::Containing(_) => {
                let names = self.0.open_table(SYSTEMS_BY_NAME).map_err(storage)?;
                let end = successor(tenant);
                let mut count = 0;
                for row in names.range((tenant, &[][..], "")..(end.as_str(), &[][..], "")).map_err(storage)? {
                    progress.row()?;
                    let (key, value) = row.map_err(storage)?;
                    count += u64::from(is_found(search, key.value().1, value.value())?);
                }
                Ok(count)
            }
        }
    }
}

/// The members of a system that a search reads besides the name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchedMembers {
    #[serde(default)]
    description: Option<Description>,
    #[serde(default)]
    external_id: Option<ExternalId>,
}

/// Whether the folded name, the description or the external id of a stored system matches.
fn is_found(search: &Search, folded_name: &[u8], row: &[u8]) -> Result<bool> {
    if std::str::from_utf8(folded_name).is_ok_and(|folded| search.matches(folded)) {
        return Ok(true);
    }
    if is_first_format(row) {
        return Ok(false);
    }
    let Some(SearchedMembers { description, external_id }) = skip_unreadable(decode(row))? else { return Ok(false) };
    Ok(description.is_some_and(|description| search.matches(&description.folded()))
        || external_id.is_some_and(|external_id| search.matches(&external_id.folded())))
}

/// Whether the range is empty; redb does not accept crossed bounds.
fn is_empty<T: PartialOrd>(low: &Bound<T>, high: &Bound<T>) -> bool {
    match (low, high) {
        (Bound::Excluded(low) | Bound::Included(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}
