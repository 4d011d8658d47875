//! Look-ups and lists of the rows of tenants.

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::reads::{BY_ID, find_first, list_of};
use super::store::MongoStore;
use crate::domain::ids::TenantId;
use crate::domain::tenants::Tenant;
use crate::store::{Result, TenantStore};

#[async_trait]
impl TenantStore for MongoStore {
    async fn find_tenant(&self, id: &TenantId) -> Result<Option<Tenant>> {
        find_first(&self.tenant_reads, &[id]).await
    }

    async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.find_one_current("find_tenant_to_change", &self.tenants, doc! { "_id": id.as_str() }, BY_ID).await
    }

    async fn list_all_tenants(&self) -> Result<Vec<Tenant>> {
        let find = self.tenants.find(Document::new()).sort(doc! { "_id": 1 }).hint(Hint::Name(BY_ID.to_owned()));
        list_of(self.collect("list_all_tenants", find.max_time(self.limits.call)).await?)
    }
}
