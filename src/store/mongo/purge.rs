//! Removing rows that are past their retention.

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;

use super::migrations;
use super::rows::{number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::{PurgeStore, Purged, Result};

/// Maximum number of documents that one command removes, so that none takes long.
const MAX_DELETIONS: u32 = 500;

#[async_trait]
impl PurgeStore for MongoStore {
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        let revoked = doc! { "revokedAt": { "$lt": revoked_before.as_millis() } };
        let ended = doc! { "expiresAt": { "$lt": now.as_millis() } };
        let full = doc! { "arrival": { "$lte": now.as_millis() } };
        let purged = Purged {
            keys: self.remove_all(&self.keys, &revoked, migrations::KEYS_REVOKED).await?,
            sessions: self.remove_all(&self.sessions, &ended, migrations::SESSIONS_EXPIRY).await?,
        };
        self.remove_all(&self.buckets, &full, migrations::BUCKETS_ARRIVAL).await?;
        Ok(purged)
    }

    async fn purge_sessions(&self, operator: OperatorId, password_version: u64) -> Result<u64> {
        let version = number_to_bson(password_version);
        let ended = doc! { "operator": to_bson(&operator)?, "passwordVersion": { "$lt": version } };
        self.remove_all(&self.sessions, &ended, migrations::SESSIONS_OPERATOR).await
    }

    async fn purge_audit(&self, tenant: &TenantId, last: u64) -> Result<u64> {
        let archived = doc! { "tenant": tenant.as_str(), "number": { "$lte": number_to_bson(last) } };
        // In the order of the index: by number.
        self.remove_all(&self.audit, &archived, migrations::AUDIT_NUMBER).await
    }
}

impl MongoStore {
    /// Removes matching documents, at most [`MAX_DELETIONS`] at a time. Documents that begin to match meanwhile may be
    /// left for the next purge.
    pub(super) async fn remove_all(
        &self,
        collection: &Collection<Document>,
        filter: &Document,
        index: &str,
    ) -> Result<u64> {
        let mut removed = 0;
        loop {
            let find = collection
                .find(filter.clone())
                .projection(doc! { "_id": 1 })
                .hint(Hint::Name(index.to_owned()))
                .limit(i64::from(MAX_DELETIONS))
                .batch_size(MAX_DELETIONS + 1)
                .max_time(self.limits.call);
            let ids: Vec<_> =
                self.collect("purge", find).await?.into_iter().filter_map(|mut d| d.remove("_id")).collect();
            let last = ids.len() < MAX_DELETIONS as usize;
            if !ids.is_empty() {
                let mut these = doc! { "_id": { "$in": ids } };
                these.extend(filter.clone());
                let delete = collection.delete_many(these).hint(Hint::Name("_id_".to_owned()));
                removed += self.bounded("purge", delete).await?.deleted_count;
            }
            if last {
                return Ok(removed);
            }
        }
    }
}
