//! Look-ups and lists of tokens.

use async_trait::async_trait;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{TOKENS, TOKENS_BY_DIGEST, TOKENS_BY_NAME, successor};
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::keys::KeyDigest;
use crate::domain::tokens::Token;
use crate::store::errors::skip_unreadable;
use crate::store::{Result, TokenStore};

#[async_trait]
impl TokenStore for EmbeddedStore {
    async fn find_token(&self, digests: &[KeyDigest]) -> Result<Option<Token>> {
        self.read(|snapshot| {
            let ids = snapshot.0.open_table(TOKENS_BY_DIGEST).map_err(storage)?;
            for digest in digests {
                if let Some(id) = ids.get(digest.as_bytes()).map_err(storage)? {
                    return snapshot.get(TOKENS, id.value());
                }
            }
            Ok(None)
        })
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<Token>> {
        self.read(|snapshot| snapshot.get(TOKENS, id.to_string().as_str()))
    }

    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>> {
        let tenant = tenant.clone();
        self.read_blocking(move |snapshot| snapshot.list_tokens(&tenant)).await
    }
}

impl Snapshot {
    fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>> {
        let (tenant, end) = (tenant.as_str(), successor(tenant.as_str()));
        let names = self.0.open_table(TOKENS_BY_NAME).map_err(storage)?;
        let mut tokens: Vec<Token> = Vec::new();
        for row in names.range((tenant, false, "")..(end.as_str(), false, "")).map_err(storage)? {
            let row = row.map_err(storage)?;
            tokens.extend(skip_unreadable(self.get(TOKENS, row.1.value()))?.flatten());
        }
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }
}
