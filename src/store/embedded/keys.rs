//! Look-ups of keys.

use async_trait::async_trait;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{DUE_KEYS, KEYS};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::time::Timestamp;
use crate::store::errors::skip_unreadable;
use crate::store::{KeyStore, Result};

#[async_trait]
impl KeyStore for EmbeddedStore {
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        self.read(|snapshot| {
            for digest in digests {
                if let Some(key) = snapshot.get(KEYS, digest.as_bytes())? {
                    return Ok(Some(key));
                }
            }
            Ok(None)
        })
    }

    async fn find_key_to_change(&self, digest: KeyDigest) -> Result<Option<Key>> {
        self.find_key(&[digest]).await
    }

    async fn list_due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>> {
        self.read(|snapshot| {
            let mut keys = Vec::new();
            for digest in snapshot.due_keys(now, limit)? {
                keys.extend(skip_unreadable(snapshot.get(KEYS, digest.as_bytes()))?.flatten());
            }
            Ok(keys)
        })
    }
}

impl Snapshot {
    fn due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<KeyDigest>> {
        let table = self.0.open_table(DUE_KEYS).map_err(storage)?;
        let due = table.range(..(now.as_millis().saturating_add(1), &[0; 32])).map_err(storage)?;
        let digests = due.take(limit).map(|entry| {
            let (key, _) = entry.map_err(storage)?;
            Ok(KeyDigest::from_bytes(*key.value().1))
        });
        digests.collect()
    }
}
