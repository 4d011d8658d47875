//! Mutations.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ID, MaybeUndefined, Object, Result};
use http::header::SET_COOKIE;

use super::context::{Authenticated, RequestContext};
use super::error::{from_service, refuse};
use super::operation::given;
use super::permissions::{Permitted, requires_permission};
use super::types::{
    self, AddOperatorPayload, ChangePasswordPayload, CreateServiceTokenPayload, CreateSystemPayload,
    CreateVerifierTokenPayload, DateTime, DeleteSystemPayload, DeleteTenantPayload, DescribeSystemPayload,
    EndRotationPayload, EndSessionsPayload, GenerateKeyPayload, KeyRole, OperatorPayload, RemoveOperatorPayload,
    RenameSystemPayload, ResumeSystemPayload, RevokeKeyPayload, RevokeTokenPayload, RotateKeyPayload,
    SetExternalIdPayload, SetKeyExpiryPayload, SignInPayload, SignOutPayload, SuspendSystemPayload, System,
    TenantPayload,
};
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{OperatorId, SystemId, TenantId, TokenId};
use crate::domain::operators::{NotAUsername, Password, Username};
use crate::domain::permissions::{CREATE, DELETE, EDIT, EDIT_OPERATORS, EDIT_TENANTS, Permission, Permissions};
use crate::domain::refusal::Refusal;
use crate::domain::system_names::SystemName;
use crate::domain::tenants::{Tenant, TenantPolicy};
use crate::domain::texts::{Description, Reason};
use crate::domain::tokens::Token;
use crate::service::Service;
use crate::service::open_sessions::Ending;
use crate::service::operators::Target;
use crate::service::sessions::{NewSession, SignIn};
use crate::service::tokens::{NewToken, TokenEnd, TokenManager};

/// Characters of a text of the client that an error shows.
const MAX_SHOWN_CHARACTERS: usize = 64;

pub struct Mutation;

/// Mutations, which run one after another. Send them to `/graphql` by `POST`.
///
/// Credentials, errors and limits are those of `Query`. Besides, a mutation that relies on the cookie must come from
/// the console's origin, or fails with `FORBIDDEN`.
///
/// A mutation is carried out and written to the audit log as a whole or not at all, also if the client disconnects.
/// `UNAVAILABLE` does not always mean that nothing changed: the message says whether to check before retrying. Any
/// mutation can fail with `CONFLICT` if the same object is changed at the same time.
#[Object(guard = "Permitted")]
impl Mutation {
    /// Opens a session. Returns its token, and sets it as an `HttpOnly` cookie. Another cookie makes the browser known, so
    /// that failures elsewhere do not limit it. Ends the session whose cookie is sent along, and the operator's oldest ones
    /// beyond 100. Requires no credentials. A repeat with a bearer token or without credentials opens another session.
    ///
    /// Errors: `INVALID_CREDENTIALS`, the same for an unknown username and for a wrong password; `RATE_LIMITED` after
    /// too many failures with the username or from the network. With the right password: `PASSWORD_EXPIRED`,
    /// `TENANT_SUSPENDED`, and `FORBIDDEN` for a suspended operator.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Username of the operator, in any case.")] username: String,
        #[graphql(desc = "Password of the operator.", secret)] password: String,
    ) -> Result<SignInPayload> {
        let (service, context) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<RequestContext>());
        let (password, devices) = (Password::unchecked(password), context.devices.clone());
        let shown = |error| from_service(error, context.request);
        let replaced =
            if context.has_session_cookie { context.find_caller(service).await.map_err(shown)? } else { None };
        let user_agent = context.user_agent.clone();
        let sign_in = SignIn { username, password, devices, replaced: replaced.cloned(), user_agent };
        let opened = service.sign_in(context.request, sign_in).await.map_err(shown)?;
        set_cookies(ctx, &opened);
        Ok(opened.into())
    }

    /// Ends the current session on every instance, and removes the cookie. The session's subscriptions end too.
    /// Requires no credentials: without a session it does nothing, so it is safe to repeat.
    ///
    /// Errors: `UNAVAILABLE` if the session has ended, but an instance may still accept it.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let (service, context) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<RequestContext>());
        let shown = |error| from_service(error, context.request);
        let caller = context.find_caller(service).await.map_err(shown)?;
        if let Some(caller) = caller {
            service.sign_out(caller, context.request).await.map_err(shown)?;
        }
        ctx.append_http_header(SET_COOKIE, context.cookie.clear());
        Ok(SignOutPayload { signed_out: caller.is_some() })
    }

    /// Changes the password of the signed-in operator. Ends all of the operator's sessions on every instance, opens a
    /// new one and sets its cookie. Requires a signed-in operator.
    ///
    /// Errors: `INVALID_CREDENTIALS` if the current password is wrong; `INVALID_PASSWORD`; `RATE_LIMITED` after too
    /// many failures; `CONFLICT` if the password was changed by another request; `UNAVAILABLE` if the password was changed,
    /// but an instance may still accept an old session: sign in with the new password.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Current password.", secret)] current_password: String,
        #[graphql(
            desc = "New password. A password has at least 12 characters (at most 1024 bytes), is none of the 10,000 most \
                          common ones, even if repeated or with digits and signs around it, and contains neither the \
                          username nor keymark.",
            secret
        )]
        new_password: String,
    ) -> Result<ChangePasswordPayload> {
        let call = Authenticated::new(ctx).await?;
        let current = Password::unchecked(current_password);
        let new = Password::chosen(new_password, &call.signed_in()?.username);
        let new = new.map_err(|unfit| refuse(&Refusal::InvalidPassword(unfit)))?;
        let opened = call.convert(call.service.change_password(call.caller, call.request, current, new).await)?;
        set_cookies(ctx, &opened);
        Ok(opened.into())
    }

    /// Creates a system without a key. Requires `api_key_management:create`.
    ///
    /// Errors: `INVALID_NAME`; `NAME_TAKEN`, also for a repeat; `BAD_USER_INPUT` for the description.
    #[graphql(directive = requires_permission::apply(CREATE.to_owned()))]
    async fn create_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Name of the system: 3 to 64 characters (grapheme clusters) and at most 256 bytes of UTF-8, \
                          without control, bidirectional and invisible characters. White space around it is removed. \
                          Must be unique within the tenant, ignoring case and width."
        )]
        name: String,
        #[graphql(desc = "What the system is for: at most 500 characters. White space around it is removed.")]
        description: Option<String>,
    ) -> Result<CreateSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let description = self::description(description)?;
        let created = call.service.create_system(call.caller, call.request, &name, description).await;
        let system = call.convert(created)?;
        Ok(CreateSystemPayload { system: System::from(&system) })
    }

    /// Renames a system. Its key stays valid. If the system has exactly this name already, nothing changes, so a repeat
    /// without `expectedRevision` is safe. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `INVALID_NAME`; `NAME_TAKEN`; `CONFLICT` if the system is not at `expectedRevision`.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn rename_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] id: ID,
        #[graphql(
            desc = "New name of the system: 3 to 64 characters (grapheme clusters) and at most 256 bytes of UTF-8, \
                          without control, bidirectional and invisible characters. White space around it is removed. \
                          Must be unique within the tenant, ignoring case and width."
        )]
        name: String,
        #[graphql(
            desc = "Revision that the change is based on. If the system is at another one, the mutation fails with \
                          `CONFLICT`, and `extensions.revision` is the current one. If omitted, the current revision is not checked."
        )]
        expected_revision: Option<i32>,
    ) -> Result<RenameSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let expected = expected_revision.map(revision);
        let renamed = call.service.rename_system(call.caller, call.request, system_id(&id)?, &name, expected).await;
        Ok(RenameSystemPayload { system: System::from(&call.convert(renamed)?) })
    }

    /// Changes the description of a system, or removes it. If the system has exactly this description already, nothing
    /// changes, so a repeat without `expectedRevision` is safe. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT`; `CONFLICT` if the system is not at `expectedRevision`.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn describe_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] id: ID,
        #[graphql(
            desc = "What the system is for: at most 500 characters. White space around it is removed. If null or \
                          empty, the description is removed."
        )]
        description: Option<String>,
        #[graphql(
            desc = "Revision that the change is based on. If the system is at another one, the mutation fails with \
                          `CONFLICT`, and `extensions.revision` is the current one. If omitted, the current revision is not checked."
        )]
        expected_revision: Option<i32>,
    ) -> Result<DescribeSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, description) = (system_id(&id)?, self::description(description)?);
        let expected = expected_revision.map(revision);
        let described = call.service.describe_system(call.caller, call.request, id, description, expected).await;
        Ok(DescribeSystemPayload { system: System::from(&call.convert(described)?) })
    }

    /// Changes the external id of a system, or removes it. The system's keys stay valid; soon after, their verdicts have
    /// it. If the system has exactly this external id already, nothing changes, so a repeat is safe. Requires
    /// `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT`; `NAME_TAKEN` if another system of the tenant has this external id;
    /// `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn set_external_id(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(
            desc = "The platform's own id of this application: at most 200 characters (grapheme clusters) and 800 bytes \
                          of UTF-8, without control, bidirectional and invisible characters. White space around it is \
                          removed. Must be unique within the tenant, compared exactly. If null or empty, the external \
                          id is removed."
        )]
        external_id: Option<String>,
    ) -> Result<SetExternalIdPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, external_id) = (self::system_id(&system_id)?, self::external_id(external_id)?);
        let changed = call.service.set_external_id(call.caller, call.request, id, external_id).await;
        Ok(SetExternalIdPayload { system: System::from(&call.convert(changed)?) })
    }

    /// Suspends a system: its keys are kept, and refused with `SUSPENDED`. Once the state of `enforcement` is `ENFORCED`,
    /// no instance accepts them. A system that is suspended already stays as it is, so a repeat is safe: it returns the
    /// system once its suspension is enforced. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for the reason; `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn suspend_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] id: ID,
        #[graphql(desc = "Why, for the audit log: at most 200 characters.")] reason: Option<String>,
    ) -> Result<SuspendSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, reason) = (system_id(&id)?, self::reason(reason)?);
        let suspended = call.service.suspend_system(call.caller, call.request, id, reason).await;
        let (system, enforcement) = call.convert(suspended)?;
        Ok(SuspendSystemPayload { system: System::from(&system), enforcement: enforcement.into() })
    }

    /// Ends the suspension of a system. Once the state of `enforcement` is `ENFORCED`, every instance accepts its keys
    /// again. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `NOT_SUSPENDED`, also for a repeat, and only once the keys are accepted.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn resume_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] id: ID,
    ) -> Result<ResumeSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let resumed = call.service.resume_system(call.caller, call.request, system_id(&id)?).await;
        let (system, enforcement) = call.convert(resumed)?;
        Ok(ResumeSystemPayload { system: System::from(&system), enforcement: enforcement.into() })
    }

    /// Deletes a system together with its keys, permanently. Once the state of `enforcement` is `ENFORCED`, no instance
    /// accepts the keys. The name becomes available again. Requires `api_key_management:delete`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for the reason. A repeat is safe: it fails with `NOT_FOUND`, and only once the
    /// deletion is enforced.
    #[graphql(directive = requires_permission::apply(DELETE.to_owned()))]
    async fn delete_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] id: ID,
        #[graphql(desc = "Why, for the audit log: at most 200 characters.")] reason: Option<String>,
    ) -> Result<DeleteSystemPayload> {
        let call = Authenticated::new(ctx).await?;
        let (system, reason) = (system_id(&id)?, self::reason(reason)?);
        let deleted = call.service.delete_system(call.caller, call.request, system, reason).await;
        let enforcement = call.convert(deleted)?.into();
        Ok(DeleteSystemPayload { deleted_system_id: id, enforcement })
    }

    /// Generates the key of a system that has none, and returns it. The full key is returned only once: if the response
    /// is lost, rotate the key with an overlap of 0. Requires `api_key_management:create`.
    ///
    /// Errors: `NOT_FOUND`; `KEY_ALREADY_GENERATED`, also for a repeat; `BAD_USER_INPUT` for an expiry less than a minute
    /// ahead or beyond the tenant's policy.
    #[graphql(directive = requires_permission::apply(CREATE.to_owned()))]
    async fn generate_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(desc = "Time from which the key is refused. If omitted, the longest life that the tenant's policy \
                          allows, or no end without a policy.")]
        expires_at: Option<DateTime>,
    ) -> Result<GenerateKeyPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = self::system_id(&system_id)?;
        let expires_at = expires_at.map(|at| at.0);
        let generated = call.convert(call.service.generate_key(call.caller, call.request, id, expires_at).await)?;
        Ok(GenerateKeyPayload {
            api_key: generated.api_key.expose().to_owned(),
            system: System::from(&generated.system),
            enforcement: generated.enforcement.into(),
        })
    }

    /// Replaces the current key of a system by a new one, and returns it. The key before is accepted for the overlap, as
    /// the retiring key; with an overlap of 0, no instance accepts it once the state of `enforcement` is `ENFORCED`, and a
    /// key that is retiring already keeps its end. The full key is returned only once: if the response is lost, rotate with
    /// an overlap of 0. Requires `api_key_management:create` and `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `KEY_NOT_GENERATED`; `ROTATION_IN_PROGRESS` while a key is retiring, also for a repeat, unless
    /// the overlap is 0; `BAD_USER_INPUT` for an overlap out of range, or an expiry less than a minute ahead or beyond the
    /// tenant's policy; `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(
        directive = requires_permission::apply(CREATE.to_owned()),
        directive = requires_permission::apply(EDIT.to_owned())
    )]
    async fn rotate_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(
            desc = "Seconds for which the key before is accepted: 0 to 2,592,000 (30 days), but no longer than to its \
                    own expiry.",
            default = 86_400
        )]
        overlap_seconds: i32,
        #[graphql(desc = "Time from which the new key is refused. If omitted, the longest life that the tenant's \
                          policy allows, or no end without a policy.")]
        expires_at: Option<DateTime>,
    ) -> Result<RotateKeyPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = self::system_id(&system_id)?;
        let overlap = overlap(overlap_seconds);
        let expires_at = expires_at.map(|at| at.0);
        let rotated = call.service.rotate_key(call.caller, call.request, id, overlap, expires_at).await;
        let rotated = call.convert(rotated)?;
        Ok(RotateKeyPayload {
            api_key: rotated.api_key.expose().to_owned(),
            system: System::from(&rotated.system),
            enforcement: rotated.enforcement.into(),
        })
    }

    /// Ends the overlap of a rotation. Once the state of `enforcement` is `ENFORCED`, no instance accepts the retiring
    /// key. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for the reason; `KEY_NOT_GENERATED` if no key is retiring. A repeat is safe: it
    /// fails with `KEY_NOT_GENERATED`, and only once the end is enforced.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn end_rotation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(desc = "Why, for the audit log: at most 200 characters.")] reason: Option<String>,
    ) -> Result<EndRotationPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, reason) = (self::system_id(&system_id)?, self::reason(reason)?);
        let ended = call.service.end_rotation(call.caller, call.request, id, reason).await;
        let (system, enforcement) = call.convert(ended)?;
        Ok(EndRotationPayload { system: System::from(&system), enforcement: enforcement.into() })
    }

    /// Changes when a key of a system ends. Once the state of `enforcement` is `ENFORCED`, every instance keeps to the new
    /// end. The end that the key has already changes nothing, so a repeat is safe. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `KEY_NOT_GENERATED` if the system has no key of this role; `BAD_USER_INPUT` for an end that is
    /// less than a minute ahead, beyond the tenant's policy, or, of a retiring key, more than 30 days ahead; `UNAVAILABLE`
    /// while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn set_key_expiry(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(desc = "Which of the system's keys.", default_with = "KeyRole::Current")] role: KeyRole,
        #[graphql(desc = "Time from which the key is refused. Null for no end, which a retiring key must have.")]
        expires_at: Option<DateTime>,
    ) -> Result<SetKeyExpiryPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, expires_at) = (self::system_id(&system_id)?, expires_at.map(|at| at.0));
        let changed = call.service.set_key_expiry(call.caller, call.request, id, role.into(), expires_at).await;
        let (system, enforcement) = call.convert(changed)?;
        Ok(SetKeyExpiryPayload { system: System::from(&system), enforcement: enforcement.into() })
    }

    /// Revokes the keys of a system: the current one, and the one that retires. Once the state of `enforcement` is
    /// `ENFORCED`, no instance accepts them. Afterwards a new key can be generated. Requires `api_key_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for the reason; `KEY_NOT_GENERATED`. A repeat is safe: it fails with
    /// `KEY_NOT_GENERATED`, and only once the revocation is enforced.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn revoke_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the system.")] system_id: ID,
        #[graphql(desc = "Why, for the audit log: at most 200 characters.")] reason: Option<String>,
    ) -> Result<RevokeKeyPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, reason) = (self::system_id(&system_id)?, self::reason(reason)?);
        let revoked = call.service.revoke_key(call.caller, call.request, id, reason).await;
        let (system, enforcement) = call.convert(revoked)?;
        Ok(RevokeKeyPayload { system: System::from(&system), enforcement: enforcement.into() })
    }

    /// Creates a tenant. For operators and service tokens of the platform. Requires `tenant_management:edit`.
    ///
    /// Errors: `BAD_USER_INPUT` for the id; `INVALID_NAME`; `NAME_TAKEN` if the id exists, also for a repeat; `UNAVAILABLE`
    /// while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn create_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Id of the tenant, which never changes: 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning with a letter or \
                    digit. That of a deleted tenant can be used again, and continues its audit log."
        )]
        id: ID,
        #[graphql(desc = "Display name: 1 to 64 characters, otherwise as the name of a system. Need not be unique.")]
        name: String,
    ) -> Result<TenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = Tenant::parse_new_id(&id).map_err(|refusal| refuse(&refusal))?;
        let origin = call.convert(call.service.origin_in_tenant(call.caller, call.request, &id))?;
        Ok(TenantPayload::new(call.convert(call.service.create_tenant(&origin, &id, &name).await)?))
    }

    /// Changes the display name of a tenant. The same name changes nothing. For operators and service tokens of the
    /// platform. Requires `tenant_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `INVALID_NAME`; `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn rename_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: ID,
        #[graphql(
            desc = "New display name: 1 to 64 characters, otherwise as the name of a system. Need not be unique."
        )]
        name: String,
    ) -> Result<TenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = tenant_id(&id)?;
        let origin = call.convert(call.service.origin_in_tenant(call.caller, call.request, &id))?;
        Ok(TenantPayload::new(call.convert(call.service.rename_tenant(&origin, &id, &name).await)?))
    }

    /// Changes the rules for a tenant's keys and sessions. An omitted argument leaves its rule as it is, and null removes
    /// it. Keys that exist keep their end. For operators and service tokens of the platform. Requires
    /// `tenant_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for a number out of range; `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn set_tenant_policy(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: ID,
        #[graphql(desc = "The longest life of a new key, in days: 1 to 3,650. Null: any, also without an end.")]
        max_key_lifetime_days: MaybeUndefined<i32>,
        #[graphql(
            desc = "The longest time that a session may be idle, in minutes: 2 to 43,200 (30 days). The server's setting \
                    holds if it is shorter. Null: the setting of the server."
        )]
        session_idle_minutes: MaybeUndefined<i32>,
    ) -> Result<TenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = tenant_id(&id)?;
        let origin = call.convert(call.service.origin_in_tenant(call.caller, call.request, &id))?;
        // A negative number is out of range, like 0.
        let limit = |argument, limit| given(ctx, argument, limit).map_value(|limit| u32::try_from(limit).unwrap_or(0));
        let days = limit("maxKeyLifetimeDays", max_key_lifetime_days);
        let minutes = limit("sessionIdleMinutes", session_idle_minutes);
        let change = |mut policy: TenantPolicy| {
            days.update_to(&mut policy.max_key_lifetime_days);
            minutes.update_to(&mut policy.session_idle_minutes);
            policy
        };
        Ok(TenantPayload::new(call.convert(call.service.set_policy(&origin, &id, change).await)?))
    }

    /// Suspends a tenant: its keys, sessions and tokens are kept, and refused. Once the state of `enforcement` is
    /// `ENFORCED`, no instance accepts them. A tenant that is suspended already stays as it is, so a repeat is safe: it
    /// returns the tenant once its suspension is enforced. For operators and service tokens of the platform. Requires
    /// `tenant_management:edit` and, if an operator of the platform is of the tenant, `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `BAD_USER_INPUT` for the reason, and for the caller's own tenant; `UNAVAILABLE` while an
    /// instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn suspend_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: ID,
        #[graphql(desc = "Why, for the audit log: at most 200 characters.")] reason: Option<String>,
    ) -> Result<TenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let (id, reason) = (tenant_id(&id)?, self::reason(reason)?);
        let origin = call.convert(call.service.origin_in_other_tenant(call.caller, call.request, &id).await)?;
        Ok(TenantPayload::new(call.convert(call.service.suspend_tenant(&origin, &id, reason).await)?))
    }

    /// Ends the suspension of a tenant. Once the state of `enforcement` is `ENFORCED`, every instance accepts its keys,
    /// sessions and tokens again. For operators and service tokens of the platform. Requires `tenant_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `NOT_SUSPENDED`, also for a repeat, and only once the keys are accepted.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn resume_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: ID,
    ) -> Result<TenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let id = tenant_id(&id)?;
        let origin = call.convert(call.service.origin_in_tenant(call.caller, call.request, &id))?;
        Ok(TenantPayload::new(call.convert(call.service.resume_tenant(&origin, &id).await)?))
    }

    /// Deletes a tenant without systems, with its operators and tokens. Its audit log stays, and the id becomes available
    /// again. For operators and service tokens of the platform. Requires `tenant_management:edit` and, if an operator of
    /// the platform is of the tenant, `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `TENANT_NOT_EMPTY`; `BAD_USER_INPUT` for the caller's own tenant; `UNAVAILABLE` while an
    /// instance of release 0.1 runs, or if the tenant was deleted, but an instance may still accept a session or token of
    /// it. A repeat is safe: it fails with `NOT_FOUND`, and only once the deletion is enforced.
    #[graphql(directive = requires_permission::apply(EDIT_TENANTS.to_owned()))]
    async fn delete_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: ID,
    ) -> Result<DeleteTenantPayload> {
        let call = Authenticated::new(ctx).await?;
        let tenant = tenant_id(&id)?;
        let origin = call.convert(call.service.origin_in_other_tenant(call.caller, call.request, &tenant).await)?;
        call.convert(call.service.delete_tenant(&origin, &tenant).await)?;
        Ok(DeleteTenantPayload { deleted_tenant_id: id })
    }

    /// Creates a token with which a backend calls this API, and returns it. The whole token is returned only once: if the
    /// response is lost, rotate the token with an overlap of 0. Requires `operator_management:edit`.
    ///
    /// Errors: `FORBIDDEN` for a permission code that the caller does not hold, and for `isPlatform` unless the caller is of
    /// the platform; `INVALID_NAME`; `NAME_TAKEN`, also for a repeat; `BAD_USER_INPUT` for an unknown code, a code of the
    /// platform without `isPlatform`, an expiry less than a minute ahead, and more than 1,000 tokens of the tenant;
    /// `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn create_service_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Name of the token: 1 to 64 characters, otherwise by the rules for names of systems. Must be unique among the tenant's \
                          service tokens, ignoring case and width."
        )]
        name: String,
        #[graphql(desc = "Permission codes of the token. The caller must hold them all.")] permissions: Vec<String>,
        #[graphql(desc = "Time from which the token is refused. If omitted, in 90 days; if null, never.")]
        expires_at: MaybeUndefined<DateTime>,
        #[graphql(desc = "Whether the token may act in every tenant.", default)] is_platform: bool,
    ) -> Result<CreateServiceTokenPayload> {
        let call = Authenticated::new(ctx).await?;
        let permissions = Some(self::permissions(&permissions)?);
        let new = NewToken { name: token_name(&name)?, permissions, is_platform, expires_at: end(ctx, expires_at) };
        let created = call.service.create_token(TokenManager::Caller(call.caller), call.request, new).await;
        Ok(call.convert(created)?.into())
    }

    /// Replaces the secret of a service token, and returns the new token. The secret before is accepted for the overlap; with
    /// an overlap of 0, no instance accepts it once the state of `enforcement` is `ENFORCED`, and one that is retiring
    /// already keeps its end. The whole token is returned only once: if the response is lost, rotate with an overlap of 0.
    /// Requires `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` if the token holds a code that the caller does not hold, or is of the platform and
    /// the caller is not; `ROTATION_IN_PROGRESS` while a secret is retiring, also for a repeat, unless the overlap is 0;
    /// `BAD_USER_INPUT` for an overlap out of range, an expiry less than a minute ahead, and for an expired token without
    /// another expiry; `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn rotate_service_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the service token.")] id: ID,
        #[graphql(
            desc = "Seconds for which the secret before is accepted: 0 to 2,592,000 (30 days), but no longer than to \
                    the expiry that the token had.",
            default = 86_400
        )]
        overlap_seconds: i32,
        #[graphql(desc = "Time from which the token is refused. If omitted, as before; if null, never.")]
        expires_at: MaybeUndefined<DateTime>,
    ) -> Result<CreateServiceTokenPayload> {
        let call = Authenticated::new(ctx).await?;
        let (manager, id, overlap) = (TokenManager::Caller(call.caller), token_id(&id)?, overlap(overlap_seconds));
        let rotated = call.service.rotate_token(manager, call.request, id, overlap, end(ctx, expires_at)).await;
        Ok(call.convert(rotated)?.into())
    }

    /// Revokes a service token. Once the state of `enforcement` is `ENFORCED`, no instance accepts it, and its WebSockets are
    /// closed. Requires `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` if the token is of the platform and the caller is not. A repeat is safe: it fails with
    /// `NOT_FOUND`, and only once the revocation is enforced.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn revoke_service_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the service token.")] id: ID,
    ) -> Result<RevokeTokenPayload> {
        revoke_token(&Authenticated::new(ctx).await?, id, true).await
    }

    /// Creates a token with which gateways and services verify keys, and returns it. The whole token is returned only once:
    /// if the response is lost, revoke the token and create another one. Requires `operator_management:edit`.
    ///
    /// Errors: `FORBIDDEN` for `isPlatform` unless the caller is of the platform; `INVALID_NAME`; `NAME_TAKEN`, also for a
    /// repeat; `BAD_USER_INPUT` for an expiry less than a minute ahead, and more than 1,000 tokens of the tenant;
    /// `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn create_verifier_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Name of the token: 1 to 64 characters, otherwise by the rules for names of systems. Must be unique among the tenant's \
                          verifier tokens, ignoring case and width."
        )]
        name: String,
        #[graphql(
            desc = "Whether the token verifies keys of all tenants. One of the tenant finds no keys of others.",
            default
        )]
        is_platform: bool,
        #[graphql(desc = "Time from which the token is refused. If omitted or null, never.")] expires_at: Option<
            DateTime,
        >,
    ) -> Result<CreateVerifierTokenPayload> {
        let call = Authenticated::new(ctx).await?;
        let expires_at = expires_at.map_or(TokenEnd::Never, |at| TokenEnd::At(at.0));
        let new = NewToken { name: token_name(&name)?, permissions: None, is_platform, expires_at };
        let created = call.service.create_token(TokenManager::Caller(call.caller), call.request, new).await;
        Ok(call.convert(created)?.into())
    }

    /// Revokes a verifier token. Once the state of `enforcement` is `ENFORCED`, no instance accepts it. Requires
    /// `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` if the token is of the platform and the caller is not. A repeat is safe: it fails with
    /// `NOT_FOUND`, and only once the revocation is enforced.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn revoke_verifier_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the verifier token.")] id: ID,
    ) -> Result<RevokeTokenPayload> {
        revoke_token(&Authenticated::new(ctx).await?, id, false).await
    }

    /// Adds an operator to the tenant, with a one-time password that the operator has to change within 24 hours. The password
    /// is returned only once: if the response is lost, reset it. Requires `operator_management:edit`.
    ///
    /// Errors: `FORBIDDEN` for a permission code that the caller does not hold, and for `isPlatform` unless the caller is of
    /// the platform; `NAME_TAKEN`, also for a repeat, and if an operator of any tenant has the username; `BAD_USER_INPUT` for
    /// the username, an unknown code, and a code of the platform without `isPlatform`; `RATE_LIMITED` while 4 passwords are
    /// generated for the tenant; `UNAVAILABLE` while an instance of release 0.1 runs that does not know one of the codes.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn add_operator(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Username to sign in with: 1 to 64 ASCII letters, digits and `.`, `_`, `-`, `@`, `+`, in any \
                          case. Must be unique across tenants."
        )]
        username: String,
        #[graphql(desc = "Permission codes of the operator. The caller must hold them all.")] permissions: Vec<String>,
        #[graphql(desc = "Whether the operator may act in every tenant.", default)] is_platform: bool,
    ) -> Result<AddOperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        let (username, permissions) = (self::username(&username)?, self::permissions(&permissions)?);
        let added =
            call.service.add_operator_to_tenant(call.caller, call.request, username, permissions, is_platform).await;
        Ok(call.convert(added)?.into())
    }

    /// Replaces the permission codes of an operator. Once the state of `enforcement` is `ENFORCED`, no instance acts on a code
    /// that was taken away, and subscriptions that require it have ended. The codes that the operator holds already change
    /// nothing, so a repeat is safe. Requires `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` for a further code that the caller does not hold, and for an operator of the platform
    /// unless the caller is one; `LAST_ADMINISTRATOR`; `BAD_USER_INPUT` for an unknown code, and for a code of the platform
    /// unless the operator is of it; `UNAVAILABLE` while an instance of release 0.1 runs that does not know one of the codes.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn set_operator_permissions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] id: ID,
        #[graphql(desc = "All permission codes that the operator holds from now on.")] permissions: Vec<String>,
    ) -> Result<OperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        let permissions = self::permissions(&permissions)?;
        Ok(call.convert(call.service.set_permissions(operator(&call, &id)?, Some(permissions)).await)?.into())
    }

    /// Replaces the password of an operator by a one-time password that the operator has to change within 24 hours, and
    /// ends all their sessions. The password is returned only once: if the response is lost, reset it again. Requires
    /// `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` if the operator holds a permission code that the caller does not hold, or is of the
    /// platform and the caller is not; `RATE_LIMITED` while 4 passwords are generated for the tenant.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn reset_operator_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] id: ID,
    ) -> Result<AddOperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        Ok(call.convert(call.service.reset_password(operator(&call, &id)?).await)?.into())
    }

    /// Suspends an operator, who cannot sign in then, and ends all their sessions. Once the state of `enforcement` is
    /// `ENFORCED`, no instance accepts them. An operator who is suspended already stays as they are, so a repeat is safe.
    /// Requires `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `FORBIDDEN` for an operator of the platform unless the caller is one; `LAST_ADMINISTRATOR`;
    /// `UNAVAILABLE` while an instance of release 0.1 runs.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn suspend_operator(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] id: ID,
    ) -> Result<OperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        Ok(call.convert(call.service.suspend_operator(operator(&call, &id)?).await)?.into())
    }

    /// Ends the suspension of an operator, who may sign in again. Requires `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`; `NOT_SUSPENDED`, also for a repeat; `FORBIDDEN` for an operator of the platform unless the caller
    /// is one.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn resume_operator(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] id: ID,
    ) -> Result<OperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        Ok(call.convert(call.service.resume_operator(operator(&call, &id)?).await)?.into())
    }

    /// Removes an operator, and ends all their sessions. Once the state of `enforcement` is `ENFORCED`, no instance accepts
    /// them. Keys that the operator generated stay valid: `systems` finds them by `generatedById`. Requires
    /// `operator_management:edit`.
    ///
    /// Errors: `NOT_FOUND`, also for a repeat, and only once the removal is enforced; `FORBIDDEN` for an operator of the
    /// platform unless the caller is one; `LAST_ADMINISTRATOR`.
    #[graphql(directive = requires_permission::apply(EDIT_OPERATORS.to_owned()))]
    async fn remove_operator(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] id: ID,
    ) -> Result<RemoveOperatorPayload> {
        let call = Authenticated::new(ctx).await?;
        let (_, enforcement) = call.convert(call.service.remove_operator(operator(&call, &id)?).await)?;
        Ok(RemoveOperatorPayload { removed_operator_id: id, enforcement: enforcement.into() })
    }

    /// Ends sessions: with `sessionId` that one, with `operatorId` all of that operator, and with neither all of the caller's
    /// own but the current one. Once the state of `enforcement` is `ENFORCED`, no instance accepts them. Requires a signed-in
    /// operator for their own sessions, and `operator_management:edit` for those of other operators of the tenant.
    ///
    /// Errors: `NOT_FOUND` for a session or operator that the caller cannot see, and for a session that has ended, so a repeat
    /// is safe; `FORBIDDEN` for all sessions of another operator without the code, for those of an operator of the platform
    /// unless the caller is one, and for a service token with neither argument; `BAD_USER_INPUT` for both arguments.
    async fn end_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the operator.")] operator_id: Option<ID>,
        #[graphql(desc = "Id of the session.")] session_id: Option<ID>,
    ) -> Result<EndSessionsPayload> {
        let call = Authenticated::new(ctx).await?;
        let ending = match (operator_id, session_id) {
            (None, None) => Ending::OwnOthers,
            (Some(id), None) => Ending::AllOf(operator_id_of(&id)?),
            (None, Some(id)) => Ending::One(types::session_id(&id).ok_or_else(|| refuse(&Refusal::SessionNotFound))?),
            (Some(_), Some(_)) => {
                let message = "Set either `operatorId` or `sessionId`, not both.";
                return Err(refuse(&Refusal::BadUserInput(message.to_owned())));
            }
        };
        Ok(call.convert(call.service.end_sessions(call.caller, call.request, ending).await)?.into())
    }
}

/// The operator of the tenant with this id, to be changed by the caller.
fn operator<'a>(call: &Authenticated<'a>, id: &ID) -> Result<Target<'a>> {
    Ok(Target::Caller(call.caller, call.request, operator_id_of(id)?))
}

/// Parses the id of an operator. A malformed id is `NOT_FOUND`, like an unknown one.
fn operator_id_of(id: &ID) -> Result<OperatorId> {
    id.parse().map_err(|_| refuse(&Refusal::OperatorIdNotFound))
}

fn username(typed: &str) -> Result<Username> {
    typed.parse().map_err(|error: NotAUsername| refuse(&Refusal::BadUserInput(format!("Not a username: {error}."))))
}

async fn revoke_token(call: &Authenticated<'_>, id: ID, is_service: bool) -> Result<RevokeTokenPayload> {
    let (manager, token) = (TokenManager::Caller(call.caller), token_id(&id)?);
    let revoked = call.service.revoke_token(manager, call.request, token, is_service).await;
    let (_, enforcement) = call.convert(revoked)?;
    Ok(RevokeTokenPayload { revoked_token_id: id, enforcement: enforcement.into() })
}

/// The end of a token.
fn end(ctx: &Context<'_>, expires_at: MaybeUndefined<DateTime>) -> TokenEnd {
    match given(ctx, "expiresAt", expires_at) {
        MaybeUndefined::Undefined => TokenEnd::Default,
        MaybeUndefined::Null => TokenEnd::Never,
        MaybeUndefined::Value(at) => TokenEnd::At(at.0),
    }
}

/// A negative overlap is out of range, like one that is too long.
fn overlap(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
}

fn token_name(typed: &str) -> Result<SystemName> {
    Token::parse_name(typed).map_err(|error| refuse(&Refusal::InvalidName(error)))
}

fn permissions(codes: &[String]) -> Result<Permissions> {
    let parse = |code: &String| {
        let unknown = || {
            let code: String = code.chars().take(MAX_SHOWN_CHARACTERS).collect();
            refuse(&Refusal::BadUserInput(format!("{code:?} is not a permission code.")))
        };
        code.parse::<Permission>().map_err(|_| unknown())
    };
    codes.iter().map(parse).collect()
}

/// Parses the id of a token. A malformed id is `NOT_FOUND`, like an unknown one.
fn token_id(id: &ID) -> Result<TokenId> {
    id.parse().map_err(|_| refuse(&Refusal::TokenNotFound))
}

/// No system is ever at revision 0, so a negative revision is a conflict.
fn revision(expected: i32) -> u64 {
    u64::try_from(expected).unwrap_or(0)
}

fn description(typed: Option<String>) -> Result<Option<Description>> {
    let parsed = Description::parse(typed.as_deref().unwrap_or_default());
    parsed.map_err(|error| refuse(&Refusal::InvalidText(error)))
}

fn external_id(typed: Option<String>) -> Result<Option<ExternalId>> {
    let parsed = ExternalId::parse(typed.as_deref().unwrap_or_default());
    parsed.map_err(|error| refuse(&Refusal::InvalidExternalId(error)))
}

fn reason(typed: Option<String>) -> Result<Option<Reason>> {
    Reason::parse(typed.as_deref().unwrap_or_default()).map_err(|error| refuse(&Refusal::InvalidText(error)))
}

/// Parses the id of a system. A malformed id is `NOT_FOUND`, like an unknown one.
fn system_id(id: &ID) -> Result<SystemId> {
    id.parse().map_err(|_| refuse(&Refusal::SystemNotFound))
}

/// Parses the id of a tenant. A malformed id is `NOT_FOUND`, like an unknown one.
fn tenant_id(id: &ID) -> Result<TenantId> {
    id.parse().map_err(|_| refuse(&Refusal::TenantNotFound))
}

fn set_cookies(ctx: &Context<'_>, opened: &NewSession) {
    let cookie = ctx.data_unchecked::<RequestContext>().cookie;
    let session = &opened.session;
    let lifetime = session.expires_at.since(session.created_at);
    ctx.append_http_header(SET_COOKIE, cookie.set(&opened.token, lifetime.as_secs()));
    ctx.append_http_header(SET_COOKIE, cookie.set_device(&opened.device));
}
