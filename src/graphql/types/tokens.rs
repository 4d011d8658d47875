//! Service tokens and verifier tokens.

use std::cmp::Reverse;
use std::sync::Arc;

use async_graphql::{ComplexObject, Context, ID, OutputType, Result, SimpleObject};

use super::actors::AuditActor;
use super::connection::PageInfo;
use super::payloads::Enforcement;
use super::{DateTime, Paging, Tenant, int};
use crate::domain::cursors;
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::pages::Page;
use crate::domain::time::Timestamp;
use crate::domain::tokens::Token;
use crate::graphql::context::Authenticated;
use crate::service::tokens::IssuedToken;

/// A token with which a backend calls this API, as `Authorization: Bearer <token>`.
#[derive(SimpleObject)]
pub(crate) struct ServiceToken {
    /// Globally unique id, for `Query.node`.
    pub id: ID,
    /// Name of the token, unique among the tenant's service tokens, ignoring case and width. Entries of the audit log name
    /// the token by it.
    name: String,
    /// Mark (last 4 characters) of the token.
    mark: String,
    /// Permission codes that the token holds.
    permissions: Vec<String>,
    /// Whether the token is of the platform, and may act in every tenant.
    is_platform: bool,
    /// Time at which the token was created.
    created_at: DateTime,
    /// Who created the token.
    created_by: AuditActor,
    /// Time from which the token is refused. Null if it does not expire.
    expires_at: Option<DateTime>,
    /// Time of the last call with the token on any instance, to the minute; it arrives within two minutes. Null if there is
    /// none, or none within 400 days.
    last_used_at: Option<DateTime>,
}

/// A token with which gateways and services use the verification listener.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct VerifierToken {
    /// Globally unique id, for `Query.node`.
    pub id: ID,
    /// Name of the token, unique among the tenant's verifier tokens, ignoring case and width.
    name: String,
    /// Mark (last 4 characters) of the token.
    mark: String,
    /// Time at which the token was created.
    created_at: DateTime,
    /// Who created the token.
    created_by: AuditActor,
    /// Time from which the token is refused. Null if it does not expire.
    expires_at: Option<DateTime>,
    /// Time of the last request with the token on any instance, to the minute; it arrives within two minutes. Null if there
    /// is none, or none within 400 days.
    last_used_at: Option<DateTime>,
    #[graphql(skip)]
    only: Option<TenantId>,
}

#[ComplexObject]
impl VerifierToken {
    /// The tenant whose keys the token verifies. Null if it verifies those of all tenants.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Tenant>> {
        let Some(tenant) = &self.only else { return Ok(None) };
        let call = Authenticated::new(ctx).await?;
        Ok(call.convert(call.service.find_tenant(tenant).await)?.as_deref().map(Tenant::from))
    }
}

/// A type of the schema that describes a token.
pub(crate) trait TokenObject: OutputType {
    const IS_SERVICE: bool;

    fn new(token: &Token, last_used_at: Option<Timestamp>) -> Self;
}

impl TokenObject for ServiceToken {
    const IS_SERVICE: bool = true;

    fn new(token: &Token, last_used_at: Option<Timestamp>) -> Self {
        Self {
            id: token.id.to_string().into(),
            name: token.name.to_string(),
            mark: token.mark.to_string(),
            permissions: token.permissions().codes(),
            is_platform: token.is_platform,
            created_at: DateTime(token.created_at),
            created_by: token.created_by.clone().into(),
            expires_at: token.expires_at.map(DateTime),
            last_used_at: last_used_at.map(DateTime),
        }
    }
}

impl TokenObject for VerifierToken {
    const IS_SERVICE: bool = false;

    fn new(token: &Token, last_used_at: Option<Timestamp>) -> Self {
        Self {
            id: token.id.to_string().into(),
            name: token.name.to_string(),
            mark: token.mark.to_string(),
            created_at: DateTime(token.created_at),
            created_by: token.created_by.clone().into(),
            expires_at: token.expires_at.map(DateTime),
            last_used_at: last_used_at.map(DateTime),
            only: (!token.is_platform).then(|| token.tenant.clone()),
        }
    }
}

/// A page of tokens, newest first.
#[derive(SimpleObject)]
#[graphql(concrete(name = "ServiceTokenConnection", params(ServiceToken)))]
#[graphql(concrete(name = "VerifierTokenConnection", params(VerifierToken)))]
pub(crate) struct TokenConnection<T: TokenObject>
where
    TokenEdge<T>: OutputType,
{
    /// Tokens of the page, with their cursors.
    edges: Vec<TokenEdge<T>>,
    /// Tokens of the page, without their cursors.
    nodes: Vec<T>,
    /// Cursors of the page's ends, and whether there are further pages.
    page_info: PageInfo,
    /// Number of tokens on all pages.
    total_count: i32,
}

/// A token and its cursor.
#[derive(SimpleObject)]
#[graphql(concrete(name = "ServiceTokenEdge", params(ServiceToken)))]
#[graphql(concrete(name = "VerifierTokenEdge", params(VerifierToken)))]
pub(crate) struct TokenEdge<T: TokenObject> {
    /// Cursor of this edge. Pass it as `after`.
    cursor: String,
    /// The token.
    node: T,
}

impl<T: TokenObject> TokenConnection<T>
where
    TokenEdge<T>: OutputType,
{
    /// Lists the tokens of the tenant that the caller acts in.
    pub(crate) async fn load(call: &Authenticated<'_>, first: Option<i32>, after: Option<String>) -> Result<Self> {
        let (tenant, keys) = (&call.caller.tenant, call.service.keyring());
        let paging = Paging { first, after, last: None, before: None };
        let request =
            paging.request(|cursor| cursors::decode_token(keys, tenant, T::IS_SERVICE, cursor).map(Reverse))?;
        let mut tokens = call.convert(call.service.list_tokens(tenant, T::IS_SERVICE).await)?;
        tokens.reverse();
        let total_count = int(tokens.len() as u64);
        let page = Page::of_list(tokens, &request, |token| Reverse(token.id));
        let used = call.convert(call.service.find_last_uses_of(&page.items).await)?;
        let cursor = |id: TokenId| cursors::encode_token(keys, tenant, T::IS_SERVICE, id);
        let page_info = PageInfo::of(&page, &request, |token| cursor(token.id));
        let objects = || page.items.iter().zip(&used).map(|(token, used)| T::new(token, *used));
        let edges = page.items.iter().zip(objects()).map(|(token, node)| TokenEdge { cursor: cursor(token.id), node });
        Ok(Self { edges: edges.collect(), nodes: objects().collect(), page_info, total_count })
    }
}

/// Loads a token of either kind. `None` if the tenant has none with this id.
pub(crate) async fn load_token(
    call: &Authenticated<'_>,
    id: TokenId,
) -> Result<Option<(Arc<Token>, Option<Timestamp>)>> {
    let Some(token) = call.convert(call.service.find_token_of(&call.caller.tenant, id).await)? else {
        return Ok(None);
    };
    let tokens = [token];
    let used = call.convert(call.service.find_last_uses_of(&tokens).await)?;
    let [token] = tokens;
    Ok(Some((token, used.first().copied().flatten())))
}

/// Result of `createServiceToken` and `rotateServiceToken`.
#[derive(SimpleObject)]
pub(crate) struct CreateServiceTokenPayload {
    /// The token, with its new secret.
    service_token: ServiceToken,
    /// The whole token. It is shown only in this response and cannot be retrieved again, so store it right away.
    token: String,
    /// Whether every instance accepts the token already, and refuses the secret before it if there was no overlap.
    enforcement: Enforcement,
}

impl From<IssuedToken> for CreateServiceTokenPayload {
    fn from(issued: IssuedToken) -> Self {
        Self {
            service_token: ServiceToken::new(&issued.token, None),
            token: issued.text.expose().to_owned(),
            enforcement: issued.enforcement.into(),
        }
    }
}

/// Result of `createVerifierToken`.
#[derive(SimpleObject)]
pub(crate) struct CreateVerifierTokenPayload {
    /// The new token.
    verifier_token: VerifierToken,
    /// The whole token. It is shown only in this response and cannot be retrieved again, so store it right away.
    token: String,
    /// Whether every instance accepts the token already.
    enforcement: Enforcement,
}

impl From<IssuedToken> for CreateVerifierTokenPayload {
    fn from(issued: IssuedToken) -> Self {
        Self {
            verifier_token: VerifierToken::new(&issued.token, None),
            token: issued.text.expose().to_owned(),
            enforcement: issued.enforcement.into(),
        }
    }
}

/// Result of `revokeServiceToken` and `revokeVerifierToken`.
#[derive(SimpleObject)]
pub(crate) struct RevokeTokenPayload {
    /// Id of the revoked token.
    pub revoked_token_id: ID,
    /// Whether every instance refuses the token already.
    pub enforcement: Enforcement,
}
