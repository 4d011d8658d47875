//! Look-ups of keys.

use async_trait::async_trait;
use mongodb::bson::doc;
use mongodb::options::Hint;

use super::migrations::KEYS_DUE;
use super::reads::{BY_ID, at_most, find_first, list_of};
use super::rows::{DUE_AT, to_bson};
use super::store::MongoStore;
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::time::Timestamp;
use crate::store::{KeyStore, Result};

#[async_trait]
impl KeyStore for MongoStore {
    // A linearizable read waits for a write to the journal: a few milliseconds, or on a set of one member up to its
    // `storage.journal.commitIntervalMs`, 100 by default.
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        if digests.is_empty() {
            return Ok(None);
        }
        // A key has one digest per secret, and the first secret is the current one.
        find_first(&self.key_reads, digests).await
    }

    async fn find_key_to_change(&self, digest: KeyDigest) -> Result<Option<Key>> {
        self.find_one("find_key_to_change", &self.keys, doc! { "_id": to_bson(&digest)? }, BY_ID).await
    }

    async fn list_due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>> {
        let (limit, batch) = at_most(limit);
        let find = self
            .keys
            .find(doc! { DUE_AT: { "$lte": now.as_millis() } })
            .sort(doc! { DUE_AT: 1 })
            .hint(Hint::Name(KEYS_DUE.to_owned()))
            .limit(limit)
            .batch_size(batch)
            .max_time(self.limits.call);
        list_of(self.collect("list_due_keys", find).await?)
    }
}
