//! Subscriptions: the tenant's audit entries as they are written, and changes of the caller.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, Subscription as GraphqlSubscription};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::asker::Call;
use super::error::{from_service, refuse};
use super::permissions::{self, Permitted, requires_permission};
use super::sharing::{Given, Handover, News, Told};
use super::types::{AuditEntry, AuditFilter, SystemChange, SystemChangeKind, Viewer};
use crate::domain::ids::SystemId;
use crate::domain::permissions::VIEW;
use crate::domain::refusal::Refusal;
use crate::domain::{audit, cursors};
use crate::service::Service;

pub struct Subscription;

/// Subscriptions, over a WebSocket at `/graphql` with the subprotocol `graphql-transport-ws`. One root field each.
///
/// **Credentials**: `{"authorization": "Bearer <token>"}` as the payload of `connection_init`, or the cookie of the
/// upgrade request. The socket closes with 4403 if they are missing or invalid, and as soon as the session ends. A
/// subscription ends with a `FORBIDDEN` error as soon as the operator loses the permission code that it requires.
///
/// **Resuming**: events arrive in the order in which the changes were committed. After a reconnect, to any instance,
/// pass the `cursor` of the last event as `after`: the events since then arrive first, none is lost and none arrives
/// twice. A cursor never expires. Without `after` a subscription begins with the next change. A cursor of another
/// tenant is `BAD_USER_INPUT`.
///
/// Other errors and limits are those of `Query`.
#[GraphqlSubscription(guard = "Permitted")]
impl Subscription {
    /// The signed-in operator: immediately, and again after each change of the operator's permission codes. Requires a
    /// signed-in operator.
    async fn viewer_changed(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = Result<Viewer>> + use<>> {
        let news = async {
            let call = Call::of(ctx).await?;
            let (callers, request) = (call.service.caller_changes(call.caller), call.request);
            Ok(callers.map(move |told| match told {
                Ok(caller) => Ok(News::Caller(Arc::new(caller))),
                Err(error) => Err(from_service(error, request)),
            }))
        };
        let show = |_: &Service, news| match news {
            News::Caller(caller) => Some(Viewer::from(&*caller)),
            News::Entry(_) => None,
        };
        told(ctx, news, show).await
    }

    /// Changes of keys: `KEY_GENERATED`, `KEY_REVOKED` and `DELETED`. Requires `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn key_state_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Receive only changes of this system. If omitted, receive changes of all systems.")] system_id: Option<ID>,
        #[graphql(
            desc = "Cursor of the last change that was received: resume after it. If omitted, begin with the next change."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        let of_system = of_system(system_id);
        let wanted = move |entry: &audit::AuditEntry| {
            SystemChangeKind::of(entry).is_some_and(SystemChangeKind::concerns_key) && of_system(entry)
        };
        entries(ctx, after, wanted, SystemChange::of).await
    }

    /// All changes of systems and their keys. Requires `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn system_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Receive only changes of this system. If omitted, receive changes of all systems.")] system_id: Option<ID>,
        #[graphql(
            desc = "Cursor of the last change that was received: resume after it. If omitted, begin with the next change."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        let of_system = of_system(system_id);
        let wanted = move |entry: &audit::AuditEntry| SystemChangeKind::of(entry).is_some() && of_system(entry);
        entries(ctx, after, wanted, SystemChange::of).await
    }

    /// Entries that are appended to the audit log, oldest first. Requires `api_key_management:view`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn audit_log_appended(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Receive only entries that match. If omitted, receive all entries.")] filter: Option<
            AuditFilter,
        >,
        #[graphql(
            desc = "Cursor of the last entry that was received: resume after it. If omitted, begin with the next entry."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<AuditEntry>> + use<>> {
        let filter: audit::AuditFilter = filter.map(Into::into).unwrap_or_default();
        let wanted = move |entry: &audit::AuditEntry| filter.matches(&entry.event);
        entries(ctx, after, wanted, |_, entry| Some(entry.into())).await
    }
}

/// Which entries concern the system, if one is named. What is no id of a system is one of which nothing is ever heard.
fn of_system(id: Option<ID>) -> impl Fn(&audit::AuditEntry) -> bool {
    let only: Option<Option<SystemId>> = id.map(|id| id.parse().ok());
    move |entry| only.is_none_or(|only| only.is_some() && entry.event.system == only)
}

/// The tenant's entries after a cursor that are wanted, as they are shown, for as long as the caller may see them.
async fn entries<T: Send + 'static>(
    ctx: &Context<'_>,
    after: Option<String>,
    wanted: impl Fn(&audit::AuditEntry) -> bool + Send + 'static,
    show: impl Fn(&Service, audit::AuditEntry) -> Option<T> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let news = async {
        let call = Call::of(ctx).await?;
        let tenant = &call.operator().tenant;
        let after = after.map(|cursor| cursors::decode_audit(call.service.keyring(), tenant, &cursor)).transpose();
        let after = after.map_err(|refusal: Refusal| refuse(&refusal))?;
        let entries = call.service.entries(call.caller, permissions::needed(ctx)?, after);
        let request = call.request;
        Ok(entries.filter_map(move |told| {
            std::future::ready(match told {
                Ok(entry) => wanted(&entry).then_some(Ok(News::Entry(entry))),
                Err(error) => Some(Err(from_service(error, request))),
            })
        }))
    };
    let show = move |service: &Service, news| match news {
        News::Entry(entry) => show(service, Arc::unwrap_or_clone(entry)),
        News::Caller(_) => None,
    };
    told(ctx, news, show).await
}

/// What a subscription tells of, as it is shown; or what the request says of it ([`sharing`](super::sharing)).
async fn told<T: Send + 'static, N: Stream<Item = Told> + Send + 'static>(
    ctx: &Context<'_>,
    news: impl Future<Output = Result<N>>,
    show: impl Fn(&Service, News) -> Option<T> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let told = match ctx.data_opt::<Given>() {
        Some(Given(told)) => stream::iter([told.clone()]).boxed(),
        None => {
            let news = news.await?.boxed();
            match ctx.data_opt::<Arc<Handover>>() {
                Some(handover) => {
                    handover.give(news);
                    stream::empty().boxed()
                }
                None => news,
            }
        }
    };
    let service = Arc::clone(ctx.data_unchecked::<Arc<Service>>());
    let shown = told.filter_map(move |told| {
        std::future::ready(match told {
            Ok(news) => show(&service, news).map(Ok),
            Err(error) => Some(Err(error)),
        })
    });
    Ok(shown.boxed())
}
