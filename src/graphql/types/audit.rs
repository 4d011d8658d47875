//! The audit log.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, Result, SimpleObject};

use super::DateTime;
use super::actors::AuditActor;
use super::connection::PageInfo;
use super::int;
use crate::domain::ids::TenantId;
use crate::domain::keys::Mark;
use crate::domain::pages::{Page, PageRequest};
use crate::domain::{audit, cursors, refusal};
use crate::graphql::context::Authenticated;
use crate::service::Service;

/// An entry of the tenant's audit log. Each change of a system, a key, an operator or a session writes one, and so
/// does a refused attempt. Entries are never changed, and only archiving removes the oldest ones.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct AuditEntry {
    /// Globally unique id, for `Query.node`.
    pub id: ID,
    /// Position in the tenant's log: 1 for the first entry, without gaps.
    number: i32,
    /// Time of the action.
    occurred_at: DateTime,
    /// Who performed or attempted the action.
    actor: AuditActor,
    /// The action that was performed or attempted.
    action: AuditAction,
    /// Whether the action was performed or refused.
    outcome: AuditOutcome,
    /// Id of the system that the action concerns. Null if it concerns none.
    system_id: Option<ID>,
    /// Name of the system right after the action, also if it was deleted since. Null if the action concerns none.
    system_name: Option<String>,
    /// Mark (last 4 characters) of the key that the action concerns. Null if it concerns none.
    key_mark: Option<String>,
    /// Mark of the other key that the action concerns: the one before a `KEY_ROTATED`, or the retiring one that was revoked
    /// or deleted together with the current one. Null if there is none.
    previous_key_mark: Option<String>,
    /// End of the key after the action. Null if the key has no end, and for actions that concern none.
    key_expires_at: Option<DateTime>,
    /// Why the operator did it. Null if no reason was given.
    reason: Option<String>,
    /// Name of the system before a `SYSTEM_RENAMED`. Null for other actions.
    previous_name: Option<String>,
    /// Id of the operator who was added, removed or changed. Null for other actions.
    operator_id: Option<ID>,
    /// Username of the operator who was added, removed or changed. Null for other actions.
    operator_name: Option<String>,
    /// Id of the service token or verifier token that was created, rotated or revoked. Null for other actions.
    token_id: Option<ID>,
    /// Name of that token. Null for other actions.
    token_name: Option<String>,
    /// Name of the tenant after the action, for actions that concern the tenant itself. Null for other actions.
    tenant_name: Option<String>,
    /// For `OPERATOR_ADDED`, `OPERATOR_PROMOTED`, `PERMISSIONS_CHANGED` and `SERVICE_TOKEN_CREATED`: all permission codes
    /// that the operator or token holds since. For `PERMISSION_REFUSED`: the missing code. Null for other actions.
    permissions: Option<Vec<String>>,
    /// Error code of a refused attempt. Null if the outcome is `DONE`, and for refused verifications.
    error_code: Option<ErrorCode>,
    /// Number of identical attempts that this entry aggregates. 1, unless attempts were refused so often that they were
    /// not logged one by one: a tenant gets at most 10 entries of refused attempts a minute from one instance. Attempts
    /// of too many kinds are aggregated in an entry whose actor is `others`, with only the action and the error code in
    /// common.
    count: i32,
    /// IP address that the request came from. Null if it is not known, as for the command line.
    source_address: Option<String>,
    /// Id of the request, as in the `X-Request-Id` header, the server's log and `extensions.requestId` of errors.
    request_id: String,
    /// SHA-256, as 64 hexadecimal digits, of the previous entry's hash followed by this entry as canonical JSON
    /// (RFC 8785). `keymark audit verify` checks the chain.
    hash: String,
    #[graphql(skip)]
    tenant: TenantId,
    #[graphql(skip)]
    position: audit::AuditHead,
}

#[ComplexObject]
impl AuditEntry {
    /// Cursor of this entry. Pass it as `after` or `before` to `auditLog`, or as `after` to a subscription.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        cursors::encode_audit(ctx.data_unchecked::<Arc<Service>>().keyring(), &self.tenant, &self.position)
    }
}

impl From<audit::AuditEntry> for AuditEntry {
    fn from(entry: audit::AuditEntry) -> Self {
        let position = entry.head();
        let event = entry.event;
        Self {
            id: event.id.to_string().into(),
            number: int(entry.number),
            occurred_at: DateTime(event.occurred_at),
            actor: event.actor.into(),
            action: event.action.into(),
            outcome: event.outcome.into(),
            system_id: event.system.map(|id| id.to_string().into()),
            system_name: event.system_name,
            key_mark: event.key_mark.map(|mark| mark.to_string()),
            previous_key_mark: event.previous_key_mark.map(|mark| mark.to_string()),
            key_expires_at: event.key_expires_at.map(DateTime),
            reason: event.reason.map(|reason| reason.as_str().to_owned()),
            previous_name: event.previous_name,
            operator_id: event.operator.map(|id| id.to_string().into()),
            operator_name: event.operator_name,
            token_id: event.token.map(|id| id.to_string().into()),
            token_name: event.token_name,
            tenant_name: event.tenant_name,
            permissions: event.permissions.map(|permissions| permissions.codes()),
            error_code: event.error_code.map(Into::into),
            count: int(event.count),
            source_address: event.source_address.map(|address| address.to_string()),
            request_id: event.request_id.to_string(),
            hash: entry.hash.to_string(),
            tenant: entry.tenant,
            position,
        }
    }
}

/// An action in the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditAction")]
pub enum AuditAction {
    /// A system was created.
    SystemCreated,
    /// A system was renamed.
    SystemRenamed,
    /// A system was deleted together with its key.
    SystemDeleted,
    /// A key was generated.
    KeyGenerated,
    /// A key was revoked.
    KeyRevoked,
    /// An operator was added.
    OperatorAdded,
    /// An operator was removed.
    OperatorRemoved,
    /// The permission codes of an operator were changed.
    PermissionsChanged,
    /// The password of an operator was changed.
    PasswordChanged,
    /// An operator signed in.
    SignedIn,
    /// An operator signed out.
    SignedOut,
    /// An operator entered a wrong password, to sign in or to change the password, or an expired first password.
    SignInRefused,
    /// An operator attempted something without the required permission code.
    PermissionRefused,
    /// A revoked key was presented for verification.
    RevokedKeyPresented,
    /// The audit log was exported.
    AuditExported,
    /// The oldest entries were moved to an archive. `count` is their number.
    AuditArchived,
    /// Keys of the tenant were digested anew under the current root secret. `count` is their number. The keys stay the
    /// same.
    KeysRedigested,
    /// The store was restored from a backup. Entries that were written after the backup are not in the log. All sessions
    /// of the tenant have ended.
    StoreRestored,
    /// A new current key was generated, and the one before retires or has ended.
    KeyRotated,
    /// The overlap of a rotation was ended early.
    RotationEnded,
    /// The end of a key was changed.
    KeyExpiryChanged,
    /// A key reached its end: it expired, or the overlap of its rotation was over.
    KeyExpired,
    /// A current key ends in 30, 7 or 1 days.
    KeyExpiryWarned,
    /// A system was suspended.
    SystemSuspended,
    /// A system was resumed.
    SystemResumed,
    /// The description of a system was changed.
    SystemDescribed,
    /// A key that has expired was presented for verification.
    ExpiredKeyPresented,
    /// A key of a suspended system was presented for verification.
    SuspendedKeyPresented,
    /// The policy of the tenant was changed. `count` is the longest life of its keys in days since, 0 for no limit.
    TenantPolicyChanged,
    /// The tenant was created.
    TenantCreated,
    /// The name of the tenant was changed.
    TenantRenamed,
    /// The tenant was suspended, and with it all its keys, sessions and tokens.
    TenantSuspended,
    /// The tenant was resumed.
    TenantResumed,
    /// The tenant was deleted, with its operators and tokens.
    TenantDeleted,
    /// An operator became one of the platform.
    OperatorPromoted,
    /// An operator was suspended, and all their sessions ended.
    OperatorSuspended,
    /// An operator was resumed.
    OperatorResumed,
    /// Sessions of an operator were ended. `count` is their number.
    SessionsEnded,
    /// A service token was created.
    ServiceTokenCreated,
    /// A service token got a new secret.
    ServiceTokenRotated,
    /// A service token was revoked.
    ServiceTokenRevoked,
    /// A verifier token was created.
    VerifierTokenCreated,
    /// A verifier token was revoked.
    VerifierTokenRevoked,
    /// The external id of a system was changed.
    ExternalIdChanged,
}

/// Outcome of an action.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditOutcome")]
pub enum AuditOutcome {
    /// The action was performed.
    Done,
    /// The action was refused; nothing was changed.
    Refused,
}

/// Values of `extensions.code` of errors. The codes are stable; the messages are for people and may change.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "refusal::ErrorCode")]
pub enum ErrorCode {
    /// No operator is signed in, or the token is invalid, or the session has ended. Sign in again.
    Unauthenticated,
    /// The caller lacks the permission code in `extensions.permission`, or gives one that they do not hold. Without
    /// `extensions.permission`: the caller is not of the platform or is a service token, the operator is suspended, or a
    /// mutation relied on the session cookie but did not come from the console's origin. The message says which.
    Forbidden,
    /// The tenant has no object with this id.
    NotFound,
    /// The name violates the rules for names. The message says which one.
    InvalidName,
    /// Another system, operator or token has this name, another system this external id, or another tenant this id: the
    /// message says which. Choose a different one.
    NameTaken,
    /// The system already has a key. Revoke it before generating another.
    KeyAlreadyGenerated,
    /// The system has no key to revoke, rotate or set an end of.
    KeyNotGenerated,
    /// The key or secret before the current one is still retiring. End that rotation, or rotate with an overlap of 0.
    RotationInProgress,
    /// The system, operator or tenant is not suspended, so it cannot be resumed.
    NotSuspended,
    /// This would leave the tenant without an operator who holds `operator_management:edit`.
    LastAdministrator,
    /// The tenant has systems, and cannot be deleted.
    TenantNotEmpty,
    /// The tenant is suspended: its operators cannot sign in, and none of its sessions, tokens and keys is valid.
    TenantSuspended,
    /// The object was changed by another request. Load it again before retrying. If the change had an
    /// `expectedRevision`, `extensions.revision` is the current one.
    Conflict,
    /// The username or the password is wrong.
    InvalidCredentials,
    /// The new password breaks the rule that `changePassword` states. The message says how.
    InvalidPassword,
    /// The password was generated, at the first start or by an administrator, and was not changed within 24 hours. An
    /// administrator has to reset it, or somebody has to run `keymark operator set-password`.
    PasswordExpired,
    /// Too many attempts. Retry after `extensions.retryAfterSeconds` seconds.
    RateLimited,
    /// The request, its document or one of its arguments is malformed.
    BadUserInput,
    /// The audit log does not contain the entry of the cursor, since it was restored from a backup (changes were lost, and
    /// others may take their place), or the entries after it were archived. Load everything again, and continue without
    /// the cursor.
    CursorInvalid,
    /// The document exceeds one of the limits described at `Query`. The message says which one.
    QueryTooComplex,
    /// The store cannot be reached, or a change is not confirmed on every instance yet. The message says whether the
    /// change was made. `extensions.requestId` identifies the request in the server's log.
    Unavailable,
    /// An error inside the server. `extensions.requestId` identifies the request in the server's log.
    Internal,
}

/// Selects audit entries that match every given field. Omitted fields match everything.
#[derive(InputObject)]
pub struct AuditFilter {
    /// Entries that concern this system. An unknown id matches nothing.
    system_id: Option<ID>,
    /// Entries whose actor is this operator. An unknown id matches nothing.
    actor_id: Option<ID>,
    /// Entries of any of these actions. An empty list matches nothing.
    actions: Option<Vec<AuditAction>>,
    /// Entries with this outcome.
    outcome: Option<AuditOutcome>,
    /// Entries that concern a key with this mark, in the same case. A text that is no mark matches nothing.
    key_mark: Option<String>,
    /// Entries at or after this time.
    from: Option<DateTime>,
    /// Entries before this time.
    to: Option<DateTime>,
}

impl From<AuditFilter> for audit::AuditFilter {
    /// A malformed id or mark matches nothing, like an unknown one.
    fn from(filter: AuditFilter) -> Self {
        let system = filter.system_id.map(|id| id.parse());
        let actor = filter.actor_id.map(|id| id.parse());
        let key_mark = filter.key_mark.map(Mark::try_from);
        let nothing =
            matches!(system, Some(Err(_))) || matches!(actor, Some(Err(_))) || matches!(key_mark, Some(Err(_)));
        let actions = filter.actions.map(|actions| actions.into_iter().map(Into::into).collect());
        Self {
            system: system.and_then(Result::ok),
            actor: actor.and_then(Result::ok),
            actions: if nothing { Some(Vec::new()) } else { actions },
            outcome: filter.outcome.map(Into::into),
            key_mark: key_mark.and_then(Result::ok),
            from: filter.from.map(|at| at.0),
            to: filter.to.map(|at| at.0),
        }
    }
}

pub(crate) struct AuditEntryConnection(Arc<AuditPage>);

/// A page with the request for it. Cursors are encoded only where they are selected.
struct AuditPage {
    service: Arc<Service>,
    tenant: TenantId,
    filter: audit::AuditFilter,
    request: PageRequest<u64>,
    page: Page<audit::AuditEntry>,
}

impl AuditPage {
    fn cursor(&self, entry: &audit::AuditEntry) -> String {
        cursors::encode_audit(self.service.keyring(), &self.tenant, &entry.head())
    }
}

pub(super) struct AuditEntryEdge {
    page: Arc<AuditPage>,
    index: usize,
}

/// An audit entry and its cursor.
#[Object]
impl AuditEntryEdge {
    /// Cursor of this edge. Pass it as `after` or `before`.
    async fn cursor(&self) -> String {
        self.page.cursor(&self.page.page.items[self.index])
    }

    /// The audit entry.
    async fn node(&self) -> AuditEntry {
        self.page.page.items[self.index].clone().into()
    }
}

/// A page of audit entries, newest first.
#[Object]
impl AuditEntryConnection {
    /// Audit entries of the page, with their cursors.
    async fn edges(&self) -> Vec<AuditEntryEdge> {
        let indices = 0..self.0.page.items.len();
        indices.map(|index| AuditEntryEdge { page: Arc::clone(&self.0), index }).collect()
    }

    /// Audit entries of the page, without their cursors.
    async fn nodes(&self) -> Vec<AuditEntry> {
        self.0.page.items.iter().cloned().map(AuditEntry::from).collect()
    }

    /// Cursors of the page's ends, and whether there are further pages.
    async fn page_info(&self) -> PageInfo {
        PageInfo::of(&self.0.page, &self.0.request, |entry| self.0.cursor(entry))
    }

    /// Number of entries that match the filter, on all pages. Counted only if selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Authenticated::new(ctx).await?;
        Ok(int(call.convert(self.0.service.count_audit(call.caller, &self.0.filter).await)?))
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
