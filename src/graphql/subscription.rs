//! Subscriptions: audit entries as they are written, seen as what they tell of.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, Subscription as GraphqlSubscription};
use futures::{Stream, StreamExt};

use super::asker::Call;
use super::error::{from_service, refuse};
use super::permissions::{self, Permitted, requires_permission};
use super::types::{AuditEntry, AuditFilter, SystemChange, Viewer};
use crate::domain::ids::SystemId;
use crate::domain::permissions::VIEW;
use crate::domain::refusal::Refusal;
use crate::domain::{audit, cursors};
use crate::service::Service;

pub struct Subscription;

/// What can be followed.
#[GraphqlSubscription(guard = "Permitted")]
impl Subscription {
    /// The signed-in operator: at once, and again whenever a permission code is given or taken.
    async fn viewer_changed(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = Result<Viewer>> + use<>> {
        let call = Call::of(ctx).await?;
        let request = call.request;
        let callers = call.service.caller_changes(call.caller);
        Ok(callers.map(move |caller| match caller {
            Ok(caller) => Ok(Viewer::from(&caller)),
            Err(error) => Err(from_service(error, request)),
        }))
    }

    /// A key was generated or revoked, or its system deleted. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn key_state_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only changes of this system; of all when absent.")] system_id: Option<ID>,
        #[graphql(desc = "The cursor of the last change that was seen: what was missed since comes first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        let changes = system_changes(ctx, system_id, after).await?;
        Ok(changes.filter(|change| {
            let wanted = change.as_ref().map_or(true, SystemChange::concerns_key);
            async move { wanted }
        }))
    }

    /// Any change of a system: those of keyStateChanged, and created, renamed. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn system_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only changes of this system; of all when absent.")] system_id: Option<ID>,
        #[graphql(desc = "The cursor of the last change that was seen: what was missed since comes first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        system_changes(ctx, system_id, after).await
    }

    /// Each entry that is written to the audit log. Needs `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn audit_log_appended(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only entries that match; all when absent.")] filter: Option<AuditFilter>,
        #[graphql(desc = "The cursor of the last entry that was seen: what was missed since comes first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<AuditEntry>> + use<>> {
        let filter: audit::AuditFilter = filter.map(Into::into).unwrap_or_default();
        let entries = entries(ctx, after).await?;
        Ok(entries.filter_map(move |entry| {
            let wanted = match entry {
                Ok(entry) if !filter.matches(&entry.event) => None,
                Ok(entry) => Some(Ok(entry.into())),
                Err(error) => Some(Err(error)),
            };
            async move { wanted }
        }))
    }
}

async fn system_changes(
    ctx: &Context<'_>,
    system_id: Option<ID>,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
    // What is no id of a system is one of which nothing is ever heard.
    let only: Option<Option<SystemId>> = system_id.map(|id| id.parse().ok());
    let service = Arc::clone(ctx.data_unchecked::<Arc<Service>>());
    let entries = entries(ctx, after).await?;
    Ok(entries.filter_map(move |entry| {
        let change = match entry {
            Ok(entry) if only.is_some_and(|only| only.is_none() || entry.event.system != only) => None,
            Ok(entry) => SystemChange::of(&service, entry).map(Ok),
            Err(error) => Some(Err(error)),
        };
        async move { change }
    }))
}

/// The tenant's entries after a cursor, for as long as the caller may see them.
async fn entries(
    ctx: &Context<'_>,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<audit::AuditEntry>> + use<>> {
    let call = Call::of(ctx).await?;
    let tenant = &call.operator().tenant;
    let after = after.map(|cursor| cursors::to_audit(call.service.keys(), tenant, &cursor)).transpose();
    let after = after.map_err(|refusal: Refusal| refuse(&refusal))?;
    let entries = call.service.entries(call.caller, permissions::needed(ctx)?, after);
    let request = call.request;
    Ok(entries.map(move |entry| entry.map_err(|error| from_service(error, request))))
}
