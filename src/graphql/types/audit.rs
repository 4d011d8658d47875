//! The audit log.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, Result, SimpleObject};

use super::DateTime;
use super::connection::PageInfo;
use super::systems::int;
use crate::domain::ids::TenantId;
use crate::domain::pages::{Page, PageRequest};
use crate::domain::{audit, cursors, refusal};
use crate::graphql::asker::Call;
use crate::service::Service;

/// Who did what to what, when, from where, with what outcome. Entries are never changed or removed.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct AuditEntry {
    /// Names the entry.
    pub id: ID,
    /// Gapless within the tenant, from 1.
    number: i32,
    /// When it happened.
    occurred_at: DateTime,
    /// Who did it.
    actor: AuditActor,
    /// What was done, or attempted.
    action: AuditAction,
    /// Whether it was done.
    outcome: AuditOutcome,
    /// The system concerned.
    system_id: Option<ID>,
    /// The system's name at that time.
    system_name: Option<String>,
    /// The key's mark, where a key was concerned.
    key_mark: Option<String>,
    /// For a rename: the name before.
    previous_name: Option<String>,
    /// The operator concerned, where one was added, removed or changed.
    operator_id: Option<ID>,
    /// The username of the operator concerned.
    operator_name: Option<String>,
    /// The permission codes that the operator concerned holds from then on; for a refused attempt, the missing one.
    permissions: Option<Vec<String>>,
    /// For a refused attempt: the error's code.
    error_code: Option<ErrorCode>,
    /// How many like attempts this entry stands for.
    count: i32,
    /// The address that the request came from.
    source_address: Option<String>,
    /// The request's id, as in logs and error messages.
    request_id: String,
    /// Hex SHA-256 of the previous entry's hash and this entry's canonical form.
    hash: String,
    #[graphql(skip)]
    tenant: TenantId,
    #[graphql(skip)]
    place: u64,
}

#[ComplexObject]
impl AuditEntry {
    /// The entry's place in the log: pass it as `after` or `before`, also to subscriptions.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        cursors::of_audit(ctx.data_unchecked::<Arc<Service>>().keyring(), &self.tenant, self.place)
    }
}

impl From<audit::AuditEntry> for AuditEntry {
    fn from(entry: audit::AuditEntry) -> Self {
        let event = entry.event;
        Self {
            id: event.id.to_string().into(),
            number: int(entry.number),
            occurred_at: DateTime(event.occurred_at),
            actor: AuditActor {
                kind: event.actor.kind.into(),
                id: event.actor.id.map(|id| id.to_string().into()),
                name: event.actor.name,
            },
            action: event.action.into(),
            outcome: event.outcome.into(),
            system_id: event.system.map(|id| id.to_string().into()),
            system_name: event.system_name,
            key_mark: event.key_mark.map(|mark| mark.to_string()),
            previous_name: event.previous_name,
            operator_id: event.operator.map(|id| id.to_string().into()),
            operator_name: event.operator_name,
            permissions: event.permissions.map(|permissions| permissions.codes()),
            error_code: event.error_code.map(Into::into),
            count: int(event.count),
            source_address: event.source_address.map(|address| address.to_string()),
            request_id: event.request_id.to_string(),
            hash: entry.hash.to_string(),
            tenant: entry.tenant,
            place: entry.number,
        }
    }
}

/// Who did something.
#[derive(SimpleObject)]
pub(super) struct AuditActor {
    /// What kind of actor it was.
    kind: AuditActorKind,
    /// The operator's id, where it was one.
    id: Option<ID>,
    /// The operator's username at that time, or what stands for the actor.
    name: String,
}

/// Kinds of actors.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditActorKind")]
pub enum AuditActorKind {
    /// A signed-in operator, or one who tried to sign in.
    Operator,
    /// Whoever may run `keymark` on the server's machine.
    CommandLine,
    /// Keymark itself.
    #[graphql(name = "SYSTEM")]
    Keymark,
    /// Nobody known.
    Anonymous,
}

/// What was done, or attempted.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditAction")]
pub enum AuditAction {
    /// A system was created.
    SystemCreated,
    /// A system was given another name.
    SystemRenamed,
    /// A system was deleted, and its key with it.
    SystemDeleted,
    /// A key was generated.
    KeyGenerated,
    /// A key was revoked.
    KeyRevoked,
    /// An operator was added.
    OperatorAdded,
    /// An operator was removed.
    OperatorRemoved,
    /// An operator was given other permission codes.
    PermissionsChanged,
    /// A password was changed.
    PasswordChanged,
    /// An operator signed in.
    SignedIn,
    /// An operator signed out.
    SignedOut,
    /// A sign-in, or a change of a password, failed for a known operator.
    SignInRefused,
    /// An operator lacked a permission code.
    PermissionRefused,
    /// A revoked key was presented for verification.
    RevokedKeyPresented,
    /// The audit log was exported.
    AuditExported,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditOutcome")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// Values of `extensions.code` of an error.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "refusal::ErrorCode")]
pub enum ErrorCode {
    /// Nobody is signed in, or the token is not good.
    Unauthenticated,
    /// The operator lacks the permission code in `extensions.permission`.
    Forbidden,
    /// The tenant has no such thing.
    NotFound,
    /// The name does not follow the rules; the message says which.
    InvalidName,
    /// Another system of the tenant has the name.
    NameTaken,
    /// The system has a key already.
    KeyAlreadyGenerated,
    /// The system has no key.
    KeyNotGenerated,
    /// Somebody else changed it meanwhile.
    Conflict,
    /// The username or the password is wrong.
    InvalidCredentials,
    /// The new password does not follow the rules.
    InvalidPassword,
    /// Too many attempts; `extensions.retryAfterSeconds` says when to try again.
    RateLimited,
    /// The request is malformed.
    BadUserInput,
    /// The document asks for too much.
    QueryTooComplex,
    /// It cannot be decided or done now.
    Unavailable,
    /// A fault of the server; the log has it under `extensions.requestId`.
    Internal,
}

/// Which entries are asked for; what is absent does not narrow.
#[derive(InputObject)]
pub struct AuditFilter {
    /// Entries that concern this system.
    system_id: Option<ID>,
    /// Entries of this operator.
    actor_id: Option<ID>,
    /// Entries of any of these actions.
    actions: Option<Vec<AuditAction>>,
    /// Entries of this outcome.
    outcome: Option<AuditOutcome>,
    /// Entries of this moment or later.
    from: Option<DateTime>,
    /// Entries before this moment.
    to: Option<DateTime>,
}

impl From<AuditFilter> for audit::AuditFilter {
    /// An id that is none matches nothing, as an unknown one does.
    fn from(filter: AuditFilter) -> Self {
        let system = filter.system_id.map(|id| id.parse());
        let actor = filter.actor_id.map(|id| id.parse());
        let nothing = matches!(system, Some(Err(_))) || matches!(actor, Some(Err(_)));
        let actions = filter.actions.map(|actions| actions.into_iter().map(Into::into).collect());
        Self {
            system: system.and_then(Result::ok),
            actor: actor.and_then(Result::ok),
            actions: if nothing { Some(Vec::new()) } else { actions },
            outcome: filter.outcome.map(Into::into),
            from: filter.from.map(|at| at.0),
            to: filter.to.map(|at| at.0),
        }
    }
}

pub(crate) struct AuditEntryConnection(Arc<AuditPage>);

/// What a page was asked for, and what it holds. Cursors are made of it only where they are selected.
struct AuditPage {
    service: Arc<Service>,
    tenant: TenantId,
    filter: audit::AuditFilter,
    request: PageRequest<u64>,
    page: Page<audit::AuditEntry>,
}

impl AuditPage {
    fn cursor(&self, entry: &audit::AuditEntry) -> String {
        cursors::of_audit(self.service.keyring(), &self.tenant, entry.number)
    }
}

pub(super) struct AuditEntryEdge {
    page: Arc<AuditPage>,
    index: usize,
}

/// An entry's place in the list.
#[Object]
impl AuditEntryEdge {
    /// Names the place: pass it as `after` or `before`.
    async fn cursor(&self) -> String {
        self.page.cursor(&self.page.page.items[self.index])
    }

    /// The entry there.
    async fn node(&self) -> AuditEntry {
        self.page.page.items[self.index].clone().into()
    }
}

/// A page of audit entries, newest first.
#[Object]
impl AuditEntryConnection {
    /// The entries of the page, each with its cursor.
    async fn edges(&self) -> Vec<AuditEntryEdge> {
        let indices = 0..self.0.page.items.len();
        indices.map(|index| AuditEntryEdge { page: Arc::clone(&self.0), index }).collect()
    }

    /// The entries of the page.
    async fn nodes(&self) -> Vec<AuditEntry> {
        self.0.page.items.iter().cloned().map(AuditEntry::from).collect()
    }

    /// Where the page stands in the list.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |entry| self.0.cursor(entry))
    }

    /// How many entries match. Counted only when it is asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Call::of(ctx).await?;
        Ok(int(call.shown(self.0.service.count_audit(&self.0.tenant, &self.0.filter).await)?))
    }
}

impl AuditEntryConnection {
    pub(crate) fn new(
        service: &Arc<Service>,
        tenant: &TenantId,
        filter: audit::AuditFilter,
        request: PageRequest<u64>,
        page: Page<audit::AuditEntry>,
    ) -> Self {
        Self(Arc::new(AuditPage { service: Arc::clone(service), tenant: tenant.clone(), filter, request, page }))
    }
}
