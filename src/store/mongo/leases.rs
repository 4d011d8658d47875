//! Leases: one document each, which its incarnation replaces whole, so that the change stream reports it whole.

use async_trait::async_trait;
use mongodb::bson::doc;

use super::rows::{id_to_bson, lease_from_document, number_to_bson, to_document};
use super::store::MongoStore;
use crate::domain::changes::Row;
use crate::domain::leases::Lease;
use crate::store::errors::skip_unreadable;
use crate::store::{LeaseStore, Result};

/// More leases than ever exist, so that all arrive in the first batch (at most 1 MiB): only the first batch of a read is
/// linearizable.
const BATCH_SIZE: u32 = 10_000;

#[async_trait]
impl LeaseStore for MongoStore {
    async fn put_lease(&self, lease: &Lease) -> Result<()> {
        let row = Row::Lease(*lease);
        let document = to_document(&row)?;
        let put = self.leases.replace_one(doc! { "_id": id_to_bson(&row.id())? }, document).upsert(true);
        self.bounded("put_lease", put).await.map(drop)
    }

    async fn list_leases(&self) -> Result<Vec<Lease>> {
        let find = self.leases_linearizable.find(doc! {}).batch_size(BATCH_SIZE).max_time(self.limits.call);
        let leases = self.collect("list_leases", find).await?.into_iter();
        leases.filter_map(|lease| skip_unreadable(lease_from_document(lease)).transpose()).collect()
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        let id = id_to_bson(&Row::Lease(*lease).id())?;
        let as_expected = doc! { "_id": id, "sequence": number_to_bson(lease.sequence) };
        Ok(self.bounded("delete_lease", self.leases.delete_one(as_expected)).await?.deleted_count == 1)
    }
}
