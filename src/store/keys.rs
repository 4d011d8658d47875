//! API keys.

use async_trait::async_trait;

use super::Result;
use crate::domain::keys::{Key, KeyDigest};

#[async_trait]
pub trait KeyStore {
    /// Returns the key with one of these digests.
    ///
    /// A linearizable read: it sees every change that was reported as committed before this call began, whatever
    /// happens to the database meanwhile. One round trip for all digests.
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>>;
}
