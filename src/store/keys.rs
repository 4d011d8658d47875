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

    /// Returns the key with this digest, for a change whose commit requires the revision that was read. It may miss a
    /// change that was reported as committed, if the database fails over meanwhile; the commit then conflicts.
    async fn find_key_to_change(&self, digest: KeyDigest) -> Result<Option<Key>>;
}
