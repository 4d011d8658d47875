//! Look-ups and lists of tokens.

use async_trait::async_trait;
use mongodb::bson::doc;
use mongodb::options::Hint;

use super::migrations::TOKENS_NAME;
use super::reads::{BY_ID, find_first, list_of};
use super::rows::to_bson;
use super::store::MongoStore;
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::keys::KeyDigest;
use crate::domain::tokens::Token;
use crate::store::{Result, TokenStore};

#[async_trait]
impl TokenStore for MongoStore {
    async fn find_token(&self, digests: &[KeyDigest]) -> Result<Option<Token>> {
        find_first(&self.token_reads, digests).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<Token>> {
        self.find_one_current("find_token_by_id", &self.tokens, doc! { "_id": to_bson(&id)? }, BY_ID).await
    }

    async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Token>> {
        let find = self
            .tokens
            .find(doc! { "tenant": tenant.as_str() })
            .hint(Hint::Name(TOKENS_NAME.to_owned()))
            .max_time(self.limits.call);
        let mut tokens: Vec<Token> = list_of(self.collect("list_tokens", find).await?)?;
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }
}
