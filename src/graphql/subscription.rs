//! Subscriptions: audit entries as they are written, seen as what they tell of.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, Subscription as GraphqlSubscription};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::asker::Call;
use super::error::{from_service, refuse};
use super::permissions::{self, Permitted, requires_permission};
use super::sharing::{Given, Handover, Told};
use super::types::{AuditEntry, AuditFilter, SystemChange, SystemChangeKind, Viewer};
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
        let of_system = of_system(system_id);
        let wanted = move |entry: &audit::AuditEntry| {
            SystemChangeKind::of(entry).is_some_and(SystemChangeKind::concerns_key) && of_system(entry)
        };
        told(ctx, after, wanted, SystemChange::of).await
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
        let of_system = of_system(system_id);
        let wanted = move |entry: &audit::AuditEntry| SystemChangeKind::of(entry).is_some() && of_system(entry);
        told(ctx, after, wanted, SystemChange::of).await
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
        let wanted = move |entry: &audit::AuditEntry| filter.matches(&entry.event);
        told(ctx, after, wanted, |_, entry| Some(entry.into())).await
    }
}

/// Which entries concern the system, if one is named. What is no id of a system is one of which nothing is ever heard.
fn of_system(id: Option<ID>) -> impl Fn(&audit::AuditEntry) -> bool {
    let only: Option<Option<SystemId>> = id.map(|id| id.parse().ok());
    move |entry| only.is_none_or(|only| only.is_some() && entry.event.system == only)
}

/// The tenant's entries after a cursor that are wanted, as they are shown, for as long as the caller may see them; or
/// what the request says of them ([`sharing`](super::sharing)).
async fn told<T: Send + 'static>(
    ctx: &Context<'_>,
    after: Option<String>,
    wanted: impl Fn(&audit::AuditEntry) -> bool + Send + 'static,
    show: impl Fn(&Service, audit::AuditEntry) -> Option<T> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let told = match ctx.data_opt::<Given>() {
        Some(Given(told)) => stream::iter([told.clone()]).boxed(),
        None => {
            let entries = entries(ctx, after).await?;
            let wanted =
                entries.filter(move |told| std::future::ready(told.as_ref().map_or(true, |entry| wanted(entry))));
            match ctx.data_opt::<Arc<Handover>>() {
                Some(handover) => {
                    handover.give(wanted.boxed());
                    stream::empty().boxed()
                }
                None => wanted.boxed(),
            }
        }
    };
    let service = Arc::clone(ctx.data_unchecked::<Arc<Service>>());
    Ok(told
        .filter_map(move |told| {
            std::future::ready(match told {
                Ok(entry) => show(&service, Arc::unwrap_or_clone(entry)).map(Ok),
                Err(error) => Some(Err(error)),
            })
        })
        .boxed())
}

/// The tenant's entries after a cursor, for as long as the caller may see them.
async fn entries(ctx: &Context<'_>, after: Option<String>) -> Result<impl Stream<Item = Told> + use<>> {
    let call = Call::of(ctx).await?;
    let tenant = &call.operator().tenant;
    let after = after.map(|cursor| cursors::to_audit(call.service.keys(), tenant, &cursor)).transpose();
    let after = after.map_err(|refusal: Refusal| refuse(&refusal))?;
    let entries = call.service.entries(call.caller, permissions::needed(ctx)?, after);
    let request = call.request;
    Ok(entries.map(move |entry| entry.map_err(|error| from_service(error, request))))
}
