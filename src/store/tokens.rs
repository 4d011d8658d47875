//! Service tokens and verifier tokens.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::keys::KeyDigest;
use crate::domain::tokens::Token;

#[async_trait]
pub trait TokenStore {
    /// Returns the token with one of these digests, current or retiring.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn find_token(&self, digests: &[KeyDigest]) -> Result<Option<Token>>;

    /// Returns the token with this id.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<Token>>;

    /// Returns the tokens of a tenant, in the order of their creation.
    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>>;
}
