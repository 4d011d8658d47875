//! Queries.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};

use super::context::{Authenticated, RequestContext};
use super::error::{from_service, refuse};
use super::permissions::{Permitted, requires_permission};
use super::types::{
    AuditEntryConnection, AuditFilter, Instance, Node, Operator, OperatorConnection, Paging, ServiceToken, Session,
    System, SystemConnection, SystemFilter, SystemOrder, Tenant, TenantConnection, TokenConnection, TokenObject,
    VerifierToken, Viewer, load_token, session_id,
};
use crate::domain::ids::{OperatorId, TokenId};
use crate::domain::permissions::{Permission, VIEW, VIEW_OPERATORS, VIEW_TENANTS};
use crate::domain::system_lists::ListOrder;
use crate::domain::system_names::Search;
use crate::domain::{audit, cursors};
use crate::service::Service;

pub struct Query;

/// Queries. They change nothing, so they are safe to repeat. Send them to `/graphql` by `POST`, or by `GET`.
///
/// **Credentials**: `Authorization: Bearer <token>`, with the token that `signIn` returns, or the cookie that it sets.
/// An invalid token results in status 401. A field whose description says "Requires" fails with `UNAUTHENTICATED`
/// if no operator is signed in, and with `FORBIDDEN` if the operator lacks that permission code; the code is then in
/// `extensions.permission`. A request is about one tenant, and ids of others are treated as unknown: the caller's own
/// tenant or, for operators and service tokens of the platform, the one whose id is in the header `X-Keymark-Tenant`
/// (`tenant` in the payload of `connection_init`). Others may name only their own there, or get `FORBIDDEN`.
///
/// **Errors** have a stable `extensions.code` out of `ErrorCode`, and a message for people. Besides the codes that a
/// field's description lists, every field can fail with `UNAVAILABLE` (retry later) and `INTERNAL`.
///
/// **Limits**: a document has at most 32 KiB, 20 root fields and 20 levels of nested fields, and resolves at most
/// 100,000 fields, where the fields of a connection count once per item of the requested page. A page with a `filter`
/// or a `search`, or sorted by `LAST_USED_AT`, `KEY_GENERATED_AT` or `KEY_EXPIRES_AT`, counts as 10,000 further fields,
/// and so does its `totalCount`. With `ids` or `externalId` in the filter, both count as 200. The `systemCount` of a
/// tenant counts as 100, a `usage` as 400, and each field of its `buckets` 400 times. A document beyond a limit is not
/// executed and fails with `QUERY_TOO_COMPLEX`; an invalid one fails with `BAD_USER_INPUT`. An operator has two pages and
/// counts of 10,000 at the same time; others wait up to 10 s, and then fail with `RATE_LIMITED`.
#[Object(guard = "Permitted")]
impl Query {
    /// The signed-in operator. Null if no operator is signed in. Requires no credentials.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Option<Viewer>> {
        let (service, context) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<RequestContext>());
        let caller = context.find_caller(service).await.map_err(|error| from_service(error, context.request))?;
        Ok(caller.map(|caller| Viewer::from(caller.as_ref())))
    }

    /// Systems of the tenant, as a Relay connection. Pages stay consistent while systems are created, changed and
    /// deleted. Requires `api_key_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, `first` together with `last`, a cursor of another list or
    /// order, or more than 200 ids.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    #[expect(clippy::too_many_arguments, reason = "the schema's arguments")]
    async fn systems(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return only systems whose name, description or external id contains this text, ignoring case and \
                          width. No character has a special meaning. If omitted or empty, return all systems."
        )]
        search: Option<String>,
        #[graphql(desc = "Return only systems that match. If omitted, return all systems.")] filter: Option<
            SystemFilter,
        >,
        #[graphql(desc = "Sort order. Defaults to `NAME`, `ASC`.")] order_by: Option<SystemOrder>,
        #[graphql(desc = "Return this many items from the start: 1 to 200. Defaults to 50 unless `last` is set.")]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "Return this many items from the end: 1 to 200. Not allowed together with `first`.")]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
    ) -> Result<SystemConnection> {
        let call = Authenticated::new(ctx).await?;
        let tenant = &call.caller.tenant;
        let order: ListOrder = order_by.map(Into::into).unwrap_or_default();
        let search = Search::parse(search.as_deref().unwrap_or_default());
        let query = match filter {
            None => search.into(),
            Some(filter) => filter.parse(search).map_err(|refusal| refuse(&refusal))?,
        };
        let paging = Paging { first, after, last, before };
        let request = paging.request(|cursor| cursors::decode_system(call.service.keyring(), tenant, order, cursor))?;
        let page = call.convert(call.service.list_systems(call.caller, &query, order, &request).await)?;
        Ok(SystemConnection::new(call.service, tenant, query, order, request, page))
    }

    /// The system with this id. Null if the tenant has none. Requires `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn system(&self, ctx: &Context<'_>, #[graphql(desc = "Id of the system.")] id: ID) -> Result<Option<System>> {
        let call = Authenticated::new(ctx).await?;
        let Ok(id) = id.parse() else { return Ok(None) };
        let system = call.convert(call.service.find_system(&call.caller.tenant, id).await)?;
        Ok(system.as_ref().map(System::from))
    }

    /// The tenant that the request is about: the one in `X-Keymark-Tenant`, or else the caller's own. Requires
    /// `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Tenant>> {
        let call = Authenticated::new(ctx).await?;
        Ok(call.convert(call.service.find_tenant(&call.caller.tenant).await)?.as_deref().map(Tenant::from))
    }

    /// All tenants, ordered by id, as a Relay connection. For operators and service tokens of the platform. Requires
    /// `tenant_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, `first` together with `last`, or a cursor of another list.
    #[graphql(directive = requires_permission::apply(VIEW_TENANTS.to_owned()))]
    async fn tenants(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return only tenants whose id or name contains this text, ignoring case and width. No character has a \
                    special meaning. If omitted or empty, return all tenants."
        )]
        search: Option<String>,
        #[graphql(desc = "Return this many items from the start: 1 to 200. Defaults to 50 unless `last` is set.")]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "Return this many items from the end: 1 to 200. Not allowed together with `first`.")]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
    ) -> Result<TenantConnection> {
        let call = Authenticated::new(ctx).await?;
        let search = Search::parse(search.as_deref().unwrap_or_default());
        TenantConnection::load(&call, &search, Paging { first, after, last, before }).await
    }

    /// The system, audit entry, tenant, operator, session, service token or verifier token with this id. Null if the tenant
    /// has none. Other tenants than the one that the request is about are found with `tenant_management:view`. Requires
    /// `api_key_management:view`, and for operators, sessions and tokens `operator_management:view` too, except for one's
    /// own sessions.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "Id of the object.")] id: ID) -> Result<Option<Node>> {
        let call = Authenticated::new(ctx).await?;
        let tenant = &call.caller.tenant;
        if let Ok(id) = id.parse() {
            let system = call.convert(call.service.find_system(tenant, id).await)?;
            return Ok(system.map(|system| Node::System(Box::new(System::from(&system)))));
        }
        if let Ok(id) = id.parse::<OperatorId>() {
            let permission = Permission::ViewOperators;
            call.convert(call.service.require_permission(call.caller, call.request, permission).await)?;
            let operator = call.convert(call.service.find_operator(tenant, id).await)?;
            return Ok(operator.map(|operator| Node::Operator(Box::new(Operator::from(operator)))));
        }
        if let Some(id) = session_id(&id) {
            let found = call.convert(call.service.find_open_session(call.caller, id).await)?;
            if found.as_ref().is_none_or(|(_, operator)| call.caller.id() != operator.id.into()) {
                let permission = Permission::ViewOperators;
                call.convert(call.service.require_permission(call.caller, call.request, permission).await)?;
            }
            return Ok(found.map(|(open, _)| Node::Session(Box::new(Session::seen_by(call.caller, open)))));
        }
        if let Ok(id) = id.parse::<TokenId>() {
            let permission = Permission::ViewOperators;
            call.convert(call.service.require_permission(call.caller, call.request, permission).await)?;
            let Some((token, used)) = load_token(&call, id).await? else { return Ok(None) };
            return Ok(Some(match token.kind.is_service() {
                true => Node::ServiceToken(Box::new(ServiceToken::new(&token, used))),
                false => Node::VerifierToken(Box::new(VerifierToken::new(&token, used))),
            }));
        }
        if let Ok(id) = id.parse() {
            let entry = call.convert(call.service.find_audit_entry(tenant, id).await)?;
            return Ok(entry.map(|entry| Node::AuditEntry(Box::new(entry.into()))));
        }
        let Ok(id) = id.parse() else { return Ok(None) };
        let tenant = call.convert(call.service.find_visible_tenant(call.caller, &id).await)?;
        Ok(tenant.map(|tenant| Node::Tenant(Box::new(Tenant::from(&*tenant)))))
    }

    /// The instances of Keymark over the same store, the one that responds first. Requires `tenant_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW_TENANTS.to_owned()))]
    async fn instances(&self, ctx: &Context<'_>) -> Result<Vec<Instance>> {
        let call = Authenticated::new(ctx).await?;
        Ok(call.service.known_instances().into_iter().map(Instance::from).collect())
    }

    /// Audit log of the tenant, newest entry first, as a Relay connection. Requires `api_key_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, `first` together with `last`, or a cursor of another
    /// list. `CURSOR_INVALID` for a cursor of an entry that the log does not contain.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Return only entries that match. If omitted, return all entries.")] filter: Option<
            AuditFilter,
        >,
        #[graphql(desc = "Return this many entries, the newest: 1 to 200. Defaults to 50 unless `last` is set.")]
        first: Option<i32>,
        #[graphql(desc = "Return only entries after this cursor in the list, which are older.")] after: Option<String>,
        #[graphql(desc = "Return this many entries, the oldest: 1 to 200. Not allowed together with `first`.")]
        last: Option<i32>,
        #[graphql(desc = "Return only entries before this cursor in the list, which are newer.")] before: Option<
            String,
        >,
    ) -> Result<AuditEntryConnection> {
        let call = Authenticated::new(ctx).await?;
        let tenant = &call.caller.tenant;
        let filter: audit::AuditFilter = filter.map(Into::into).unwrap_or_default();
        let paging = Paging { first, after, last, before };
        let request = paging.request(|cursor| cursors::decode_audit(call.service.keyring(), tenant, cursor))?;
        let request = call.convert(call.service.find_positions(tenant, request).await)?;
        let page = call.convert(call.service.list_audit(call.caller, &filter, &request).await)?;
        Ok(AuditEntryConnection::new(call.service, tenant, filter, request, page))
    }

    /// Cursor of the last entry of the tenant's audit log. Pass it as `after` to a subscription to receive everything that
    /// happens from now on. To load data and follow its changes without a gap, query this field in a request of its own,
    /// then load the data, then subscribe. Requires `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn audit_cursor(&self, ctx: &Context<'_>) -> Result<String> {
        let call = Authenticated::new(ctx).await?;
        let tenant = &call.caller.tenant;
        let head = call.convert(call.service.audit_head(tenant).await)?;
        Ok(cursors::encode_audit(call.service.keyring(), tenant, &head))
    }

    /// Operators who belong to the tenant, ordered by username, as a Relay connection. Requires `operator_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, `first` together with `last`, or a cursor of another list.
    #[graphql(directive = requires_permission::apply(VIEW_OPERATORS.to_owned()))]
    async fn operators(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return only operators whose username contains this text, ignoring case. No character has a \
                          special meaning. If omitted or empty, return all."
        )]
        search: Option<String>,
        #[graphql(desc = "Return this many items from the start: 1 to 200. Defaults to 50 unless `last` is set.")]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "Return this many items from the end: 1 to 200. Not allowed together with `first`.")]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
    ) -> Result<OperatorConnection> {
        let call = Authenticated::new(ctx).await?;
        OperatorConnection::load(&call, &search.unwrap_or_default(), Paging { first, after, last, before }).await
    }

    /// Service tokens of the tenant, newest first, as a Relay connection. Requires `operator_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, or a cursor of another list.
    #[graphql(directive = requires_permission::apply(VIEW_OPERATORS.to_owned()))]
    async fn service_tokens(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Return this many tokens: 1 to 200. Defaults to 50.")] first: Option<i32>,
        #[graphql(desc = "Return only tokens after this cursor.")] after: Option<String>,
    ) -> Result<TokenConnection<ServiceToken>> {
        TokenConnection::load(&Authenticated::new(ctx).await?, first, after).await
    }

    /// Verifier tokens of the tenant, newest first, as a Relay connection. Requires `operator_management:view`.
    ///
    /// Errors: `BAD_USER_INPUT` for a page size out of range, or a cursor of another list.
    #[graphql(directive = requires_permission::apply(VIEW_OPERATORS.to_owned()))]
    async fn verifier_tokens(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Return this many tokens: 1 to 200. Defaults to 50.")] first: Option<i32>,
        #[graphql(desc = "Return only tokens after this cursor.")] after: Option<String>,
    ) -> Result<TokenConnection<VerifierToken>> {
        TokenConnection::load(&Authenticated::new(ctx).await?, first, after).await
    }
}
