//! Look-ups, lists and counts of systems.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::doc;
use mongodb::options::Hint;

use super::audit::{EntryQuery, entry_queries};
use super::errors::corrupt;
use super::migrations;
use super::reads::{BY_ID, at_most, list_of};
use super::rows::{EXTERNAL_ID, number_of, system_from_bytes, to_bson};
use super::store::MongoStore;
use super::system_lists::{SystemList, text_filter};
use crate::domain::audit::AuditFilter;
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::store::errors::skip_unreadable;
use crate::store::{Page, PageRequest, Result, SystemState, SystemStore};

#[async_trait]
impl SystemStore for MongoStore {
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.find_one("find_system", &self.systems, doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() }, BY_ID)
            .await
    }

    async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState> {
        let call = "recheck_system";
        let mut session = self.start_current_session(call).await?;
        let filter = doc! { "_id": to_bson(&id)?, "tenant": tenant.as_str() };
        if let Some(system) = self.find_one_in(&mut session, call, &self.systems, filter, BY_ID).await? {
            return Ok(SystemState::Present(system));
        }
        let Some(EntryQuery { query, index, .. }) = entry_queries(tenant, &AuditFilter::deletion_of(id))?.pop() else {
            return Ok(SystemState::Unknown);
        };
        let find = self.audit.find_one(query).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        let found = self.bounded(call, find.session(&mut session)).await?;
        Ok(if found.is_some() { SystemState::Deleted } else { SystemState::Unknown })
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (_, batch) = at_most(ids.len());
        let find = self
            .systems
            .find(doc! { "_id": { "$in": to_bson(&ids)? }, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .batch_size(batch)
            .max_time(self.limits.call);
        let found = self.collect_rows("find_systems", find, |document| skip_unreadable(system_from_bytes(document)));
        Ok(found.await?.into_iter().flatten().collect())
    }

    async fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>> {
        let find = self
            .systems
            .find(doc! { "tenant": tenant.as_str(), EXTERNAL_ID: external_id.as_str() })
            .hint(Hint::Name(migrations::SYSTEMS_EXTERNAL_ID.to_owned()))
            .limit(1)
            .max_time(self.limits.call);
        Ok(list_of(self.collect("find_system_by_external_id", find).await?)?.pop())
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        let list = SystemList { tenant: tenant.clone(), search: search.clone(), order, page: page.clone() };
        self.system_lists.get(list).await.map(Arc::unwrap_or_clone)
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        let Some(texts) = text_filter(search) else { return Ok(0) };
        let mut filter = doc! { "tenant": tenant.as_str() };
        filter.extend(texts);
        self.count("count_systems", &self.systems, filter, migrations::SYSTEMS_NAME).await
    }

    async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>> {
        let group = doc! { "$group": { "_id": "$tenant", "count": { "$sum": 1_i64 } } };
        // Sorted by the index, so that it alone is read.
        let count = self
            .systems
            .aggregate([doc! { "$sort": { "tenant": 1, "folded": 1 } }, group])
            .hint(Hint::Name(migrations::SYSTEMS_NAME.to_owned()))
            .max_time(self.limits.call);
        let counts = self.collect("count_systems_by_tenant", count).await?.into_iter().map(|count| {
            let tenant = count.get_str("_id").ok().and_then(|tenant| tenant.parse().ok());
            let number = count.get("count").and_then(number_of).and_then(|number| u64::try_from(number).ok());
            tenant.zip(number).ok_or_else(|| corrupt("a system without a tenant"))
        });
        counts.collect()
    }
}
