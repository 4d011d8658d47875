//! Queries.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};

use super::asker::{Asker, Call};
use super::error::from_service;
use super::permissions::{Permitted, requires_permission};
use super::types::{AuditEntryConnection, AuditFilter, Node, Paging, System, SystemConnection, SystemOrder, Viewer};
use crate::domain::permissions::VIEW;
use crate::domain::system_names::Search;
use crate::domain::{audit, cursors, systems};
use crate::service::Service;

pub struct Query;

/// What can be asked.
#[Object(guard = "Permitted")]
impl Query {
    /// The signed-in operator; null when nobody is.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Option<Viewer>> {
        let (service, asker) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<Asker>());
        let caller = asker.find_caller(service).await.map_err(|error| from_service(error, asker.request))?;
        Ok(caller.map(|caller| Viewer::from(caller.as_ref())))
    }

    /// The tenant's systems. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    #[expect(clippy::too_many_arguments, reason = "the schema's arguments")]
    async fn systems(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only systems whose name contains this text, whatever its case and width; never a pattern. \
                          Empty: all.")]
        search: Option<String>,
        #[graphql(desc = "How to sort; by name when absent.")] order_by: Option<SystemOrder>,
        #[graphql(desc = "How many from the beginning: 1 to 200; 50 when neither this nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end: 1 to 200; not together with `first`.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<SystemConnection> {
        let call = Call::of(ctx).await?;
        let tenant = &call.operator().tenant;
        let order: systems::SystemOrder = order_by.map(Into::into).unwrap_or_default();
        let search = Search::parse(search.as_deref().unwrap_or_default());
        let paging = Paging { first, after, last, before };
        let request = paging.request(|cursor| cursors::to_system(call.service.keyring(), tenant, order, cursor))?;
        let page = call.shown(call.service.list_systems(tenant, &search, order, &request).await)?;
        Ok(SystemConnection::new(call.service, tenant, search, order, request, page))
    }

    /// One system; null when the tenant has none of this id. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn system(&self, ctx: &Context<'_>, #[graphql(desc = "The system's id.")] id: ID) -> Result<Option<System>> {
        let call = Call::of(ctx).await?;
        let Ok(id) = id.parse() else { return Ok(None) };
        let system = call.shown(call.service.find_system(&call.operator().tenant, id).await)?;
        Ok(system.as_ref().map(System::from))
    }

    /// The system or audit entry of this id; null when the tenant has none. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "The object's id.")] id: ID) -> Result<Option<Node>> {
        let call = Call::of(ctx).await?;
        let tenant = &call.operator().tenant;
        if let Ok(id) = id.parse() {
            let system = call.shown(call.service.find_system(tenant, id).await)?;
            return Ok(system.map(|system| Node::System(System::from(&system))));
        }
        let Ok(id) = id.parse() else { return Ok(None) };
        let entry = call.shown(call.service.find_audit_entry(tenant, id).await)?;
        Ok(entry.map(|entry| Node::AuditEntry(Box::new(entry.into()))))
    }

    /// The tenant's audit log, newest first. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only entries that match; all when absent.")] filter: Option<AuditFilter>,
        #[graphql(desc = "How many from the newest: 1 to 200; 50 when neither this nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor in the list: older entries.")] after: Option<String>,
        #[graphql(desc = "How many from the oldest: 1 to 200; not together with `first`.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor in the list: newer entries.")] before: Option<String>,
    ) -> Result<AuditEntryConnection> {
        let call = Call::of(ctx).await?;
        let tenant = &call.operator().tenant;
        let filter: audit::AuditFilter = filter.map(Into::into).unwrap_or_default();
        let paging = Paging { first, after, last, before };
        let request = paging.request(|cursor| cursors::to_audit(call.service.keyring(), tenant, cursor))?;
        let page = call.shown(call.service.list_audit(tenant, &filter, &request).await)?;
        Ok(AuditEntryConnection::new(call.service, tenant, filter, request, page))
    }
}
