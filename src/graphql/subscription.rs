//! Subscriptions: the tenant's audit entries as they are written, and changes of the caller.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, Subscription as GraphqlSubscription};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::context::Authenticated;
use super::error::{from_service, refuse};
use super::permissions::{self, Permitted, requires_permission};
use super::shared::{DetachedEvents, EventResult, ReplayedEvent, SubscriptionEvent};
use super::types::{AuditEntry, AuditFilter, System, SystemChange, SystemChangeKind, Viewer};
use crate::domain::permissions::VIEW;
use crate::domain::refusal::Refusal;
use crate::domain::{audit, cursors};
use crate::service::Service;
use crate::service::feed::Subject;

pub struct Subscription;

/// Subscriptions, over a WebSocket at `/graphql` with the subprotocol `graphql-transport-ws`. One root field each.
///
/// **Credentials**: `{"authorization": "Bearer <token>"}` as the payload of `connection_init`, or the cookie of the
/// upgrade request. The socket closes with 4403 if they are missing or invalid, and as soon as the session ends. A
/// subscription ends with a `FORBIDDEN` error as soon as the operator loses the permission code that it requires.
///
/// **Resuming**: events arrive in the order in which the changes were committed. After a reconnect, to any instance,
/// pass the `cursor` of the last event as `after`: the events since then arrive first, none is lost and none arrives
/// twice. The first one comes from `Query.auditCursor`, which is queried before the data that the changes apply to.
/// Without `after` a subscription begins with the next change. A cursor of another tenant is `BAD_USER_INPUT`. A cursor
/// does not expire, but if the store was restored from a backup that does not contain its entry, or if entries after it
/// were archived, the subscription ends with `CURSOR_INVALID`: load everything again, and subscribe without the cursor.
///
/// Other errors and limits are those of `Query`.
#[GraphqlSubscription(guard = "Permitted")]
impl Subscription {
    /// The signed-in operator: immediately, and again after each change of the operator's permission codes. Requires a
    /// signed-in operator.
    async fn viewer_changed(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = Result<Viewer>> + use<>> {
        let events = async {
            let call = Authenticated::new(ctx).await?;
            let (callers, request) = (call.service.caller_changes(call.caller), call.request);
            Ok(callers.map(move |caller| match caller {
                Ok(caller) => Ok(SubscriptionEvent::Caller(Arc::new(caller))),
                Err(error) => Err(from_service(error, request)),
            }))
        };
        let resolve = |_: &Service, event| match event {
            SubscriptionEvent::Caller(caller) => Some(Viewer::from(&*caller)),
            _ => None,
        };
        resolve_events(ctx, events, resolve).await
    }

    /// Changes that add, limit or end a key: all kinds except `CREATED`, `RENAMED`, `DESCRIBED` and
    /// `EXTERNAL_ID_CHANGED`. Requires `api_key_management:view`.
    ///
    /// Errors: `NOT_FOUND` if the tenant has no system `systemId`, unless it was deleted after `after`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn key_state_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Receive only changes of this system. If omitted, receive changes of all systems.")]
        system_id: Option<ID>,
        #[graphql(
            desc = "Cursor of the last change that was received: resume after it. If omitted, begin with the next change."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        let subject = subject(system_id);
        let matches = move |entry: &audit::AuditEntry| {
            SystemChangeKind::of(entry).is_some_and(SystemChangeKind::concerns_key) && is_about(subject, entry)
        };
        entries(ctx, subject, after, matches, SystemChange::of).await
    }

    /// All changes of systems and their keys. Requires `api_key_management:view`.
    ///
    /// Errors: `NOT_FOUND` if the tenant has no system `systemId`, unless it was deleted after `after`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn system_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Receive only changes of this system. If omitted, receive changes of all systems.")]
        system_id: Option<ID>,
        #[graphql(
            desc = "Cursor of the last change that was received: resume after it. If omitted, begin with the next change."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<SystemChange>> + use<>> {
        let subject = subject(system_id);
        let matches =
            move |entry: &audit::AuditEntry| SystemChangeKind::of(entry).is_some() && is_about(subject, entry);
        entries(ctx, subject, after, matches, SystemChange::of).await
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
        let matches = move |entry: &audit::AuditEntry| filter.matches(&entry.event);
        entries(ctx, Subject::Tenant, after, matches, |_, entry| Some(entry.into())).await
    }

    /// The system, each time that any instance has written use of its keys, at most every two seconds. Use that is written
    /// while the client is not subscribed is no event: it cannot be resumed. Requires `api_key_management:view`.
    ///
    /// Errors: `NOT_FOUND` if the tenant has no system `systemId`.
    #[graphql(directive = requires_permission::apply(VIEW.to_owned()))]
    async fn usage_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
    ) -> Result<impl Stream<Item = Result<System>> + use<>> {
        let events = async {
            let call = Authenticated::new(ctx).await?;
            let system = system_id.parse().map_err(|_| refuse(&Refusal::SystemNotFound))?;
            let changes = call.service.usage_changes(call.caller, permissions::needed(ctx)?, system).await;
            let (changes, request) = (call.convert(changes)?, call.request);
            Ok(changes.map(move |change| match change {
                Ok(change) => Ok(SubscriptionEvent::Usage(Arc::new(change))),
                Err(error) => Err(from_service(error, request)),
            }))
        };
        let resolve = |_: &Service, event| match event {
            SubscriptionEvent::Usage(change) => Some(System::with_last_uses(&change.0, Arc::clone(&change.1))),
            _ => None,
        };
        resolve_events(ctx, events, resolve).await
    }
}

fn subject(id: Option<ID>) -> Subject {
    id.map_or(Subject::Tenant, |id| id.parse().map_or(Subject::Nothing, Subject::System))
}

fn is_about(subject: Subject, entry: &audit::AuditEntry) -> bool {
    match subject {
        Subject::Tenant => true,
        Subject::System(id) => entry.event.system == Some(id),
        Subject::Nothing => false,
    }
}

/// The tenant's entries after a cursor that match, resolved, for as long as the caller may see them.
async fn entries<T: Send + 'static>(
    ctx: &Context<'_>,
    subject: Subject,
    after: Option<String>,
    matches: impl Fn(&audit::AuditEntry) -> bool + Send + Sync + 'static,
    resolve: impl Fn(&Service, audit::AuditEntry) -> Option<T> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let events = async {
        let call = Authenticated::new(ctx).await?;
        let tenant = &call.caller.tenant;
        let after = after.map(|cursor| cursors::decode_audit(call.service.keyring(), tenant, &cursor)).transpose();
        let after = after.map_err(|refusal: Refusal| refuse(&refusal))?;
        let entries = call.service.entries(call.caller, permissions::needed(ctx)?, subject, after, matches);
        let request = call.request;
        Ok(entries.map(move |entry| entry.map(SubscriptionEvent::Entry).map_err(|error| from_service(error, request))))
    };
    let resolve = move |service: &Service, event| match event {
        SubscriptionEvent::Entry(entry) => resolve(service, Arc::unwrap_or_clone(entry)),
        _ => None,
    };
    resolve_events(ctx, events, resolve).await
}

/// Resolves a subscription's events; or detaches them, or resolves the replayed one, if the request's data says so (see
/// [`shared`](super::shared)).
async fn resolve_events<T: Send + 'static, E: Stream<Item = EventResult> + Send + 'static>(
    ctx: &Context<'_>,
    events: impl Future<Output = Result<E>>,
    resolve: impl Fn(&Service, SubscriptionEvent) -> Option<T> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let events = match ctx.data_opt::<ReplayedEvent>() {
        Some(ReplayedEvent(event)) => stream::iter([event.clone()]).boxed(),
        None => {
            let events = events.await?.boxed();
            match ctx.data_opt::<Arc<DetachedEvents>>() {
                Some(detached) => {
                    detached.set(events);
                    stream::empty().boxed()
                }
                None => events,
            }
        }
    };
    let service = Arc::clone(ctx.data_unchecked::<Arc<Service>>());
    let resolved = events.filter_map(move |event| {
        std::future::ready(match event {
            Ok(event) => resolve(&service, event).map(Ok),
            Err(error) => Some(Err(error)),
        })
    });
    Ok(resolved.boxed())
}
