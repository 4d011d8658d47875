//! Leases: one document each, which its incarnation replaces whole, so that the change stream reports it whole.
//!
//! A put takes effect at most once, even if it is retried or arrives late: the driver sends it as a retryable write
//! (<https://www.mongodb.com/docs/v6.0/core/retryable-writes/>).

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};

use super::feed::timestamp;
use super::rows::{id_to_bson, lease_from_document, number_to_bson, to_document};
use super::store::MongoStore;
use crate::domain::changes::Row;
use crate::domain::leases::{Lease, LogTime};
use crate::store::errors::skip_unreadable;
use crate::store::{LeaseStore, Result};

/// More leases than ever exist, so that all arrive in the first batch (at most 1 MiB): only the first batch of a read is
/// linearizable, and one round trip is enough.
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
        readable(self.collect("list_leases", find).await?)
    }

    /// Any member may return it that has committed everything up to `position`, also a primary that was deposed: the
    /// position was received in a feed, so it is in the committed log of every later primary.
    /// (<https://www.mongodb.com/docs/v6.0/core/causal-consistency-read-write-concerns/>)
    async fn list_leases_at(&self, position: LogTime) -> Result<Vec<Lease>> {
        let list = async {
            let mut session = self.leases.client().start_session().causal_consistency(true).await?;
            session.advance_operation_time(timestamp(position));
            let find = self.leases.find(doc! {}).batch_size(BATCH_SIZE).max_time(self.limits.call);
            let mut found = find.session(&mut session).await?;
            found.stream(&mut session).try_collect::<Vec<Document>>().await
        };
        readable(self.bounded("list_leases_at", list).await?)
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        let id = id_to_bson(&Row::Lease(*lease).id())?;
        let as_expected = doc! { "_id": id, "sequence": number_to_bson(lease.sequence) };
        Ok(self.bounded("delete_lease", self.leases.delete_one(as_expected)).await?.deleted_count == 1)
    }
}

fn readable(leases: Vec<Document>) -> Result<Vec<Lease>> {
    leases.into_iter().filter_map(|lease| skip_unreadable(lease_from_document(lease)).transpose()).collect()
}
