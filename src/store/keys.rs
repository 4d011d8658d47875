//! API keys.

use async_trait::async_trait;

use super::Result;
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::time::Timestamp;

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

    /// Returns live keys about whose expiry an entry is due at `now` ([`Key::due_at`]), the longest due first, at most
    /// `limit`. For changes, like [`find_key_to_change`](Self::find_key_to_change).
    async fn list_due_keys(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>>;
}
