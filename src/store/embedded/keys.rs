//! Look-ups of keys.

use async_trait::async_trait;

use super::store::EmbeddedStore;
use super::tables::KEYS;
use crate::domain::keys::{Key, KeyDigest};
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
}
