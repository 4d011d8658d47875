//! Mutations.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use http::header::SET_COOKIE;

use super::asker::{Asker, Call};
use super::error::{from_service, refuse};
use super::permissions::{Permitted, requires_permission};
use super::types::{
    ChangePasswordPayload, CreateSystemPayload, DeleteSystemPayload, GenerateKeyPayload, RenameSystemPayload,
    RevokeKeyPayload, SignInPayload, SignOutPayload, System,
};
use crate::domain::ids::SystemId;
use crate::domain::operators::Password;
use crate::domain::permissions::{CREATE, DELETE, EDIT};
use crate::domain::refusal::Refusal;
use crate::service::Service;
use crate::service::sessions::OpenedSession;

pub struct Mutation;

/// What can be done.
#[Object(guard = "Permitted")]
impl Mutation {
    /// Opens a session. Answers a token for `Authorization: Bearer`, and sets it as a cookie.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The operator's username.")] username: String,
        #[graphql(desc = "The operator's password.", secret)] password: String,
    ) -> Result<SignInPayload> {
        let (service, asker) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<Asker>());
        let opened = service.sign_in(asker.request, &username, Password::presented(password)).await;
        let opened = opened.map_err(|error| from_service(error, asker.request))?;
        set_cookie(ctx, &opened);
        Ok(opened.into())
    }

    /// Ends the session, on every instance, and takes the cookie away.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let (service, asker) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<Asker>());
        let shown = |error| from_service(error, asker.request);
        let caller = asker.find_caller(service).await.map_err(shown)?;
        if let Some(caller) = caller {
            service.sign_out(caller, asker.request).await.map_err(shown)?;
        }
        ctx.append_http_header(SET_COOKIE, asker.cookie.clear());
        Ok(SignOutPayload { signed_out: caller.is_some() })
    }

    /// Changes the signed-in operator's password. Every session of theirs ends, on every instance, and a new one
    /// begins.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password until now.", secret)] current_password: String,
        #[graphql(desc = "The password from now on: 8 to 1024 bytes.", secret)] new_password: String,
    ) -> Result<ChangePasswordPayload> {
        let call = Call::of(ctx).await?;
        let current = Password::presented(current_password);
        let new = Password::chosen(new_password).map_err(|unfit| refuse(&Refusal::InvalidPassword(unfit)))?;
        let opened = call.shown(call.service.change_password(call.caller, call.request, current, new).await)?;
        set_cookie(ctx, &opened);
        Ok(opened.into())
    }

    /// Registers a system. Needs `api_key_management:create`.
    #[graphql(directive = requires_permission::apply(CREATE.to_owned()))]
    async fn create_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "3 to 64 characters, unique in the tenant whatever its case and width.")] name: String,
    ) -> Result<CreateSystemPayload> {
        let call = Call::of(ctx).await?;
        let system = call.shown(call.service.create_system(call.caller, call.request, &name).await)?;
        Ok(CreateSystemPayload { system: System::from(&system) })
    }

    /// Gives a system another name; the very same one changes nothing. Needs `api_key_management:edit`.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn rename_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The system's id.")] id: ID,
        #[graphql(desc = "3 to 64 characters, unique in the tenant whatever its case and width.")] name: String,
        #[graphql(desc = "The revision that was looked at: the change fails with CONFLICT when there is a newer one.")]
        expected_revision: Option<i32>,
    ) -> Result<RenameSystemPayload> {
        let call = Call::of(ctx).await?;
        // A negative revision is none that a system ever had.
        let expected = expected_revision.map(|revision| u64::try_from(revision).unwrap_or(0));
        let renamed = call.service.rename_system(call.caller, call.request, system_id(&id)?, &name, expected).await;
        Ok(RenameSystemPayload { system: System::from(&call.shown(renamed)?) })
    }

    /// Removes a system and its key, for good and at once. Needs `api_key_management:delete`.
    #[graphql(directive = requires_permission::apply(DELETE.to_owned()))]
    async fn delete_system(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The system's id.")] id: ID,
    ) -> Result<DeleteSystemPayload> {
        let call = Call::of(ctx).await?;
        let deleted = call.service.delete_system(call.caller, call.request, system_id(&id)?).await;
        let enforcement = call.shown(deleted)?.into();
        Ok(DeleteSystemPayload { deleted_system_id: id, enforcement })
    }

    /// Gives a system without a key one, and answers it in full, once. Needs `api_key_management:create`.
    #[graphql(directive = requires_permission::apply(CREATE.to_owned()))]
    async fn generate_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The system's id.")] system_id: ID,
    ) -> Result<GenerateKeyPayload> {
        let call = Call::of(ctx).await?;
        let id = self::system_id(&system_id)?;
        let generated = call.shown(call.service.generate_key(call.caller, call.request, id).await)?;
        Ok(GenerateKeyPayload {
            api_key: generated.api_key.expose().to_owned(),
            system: System::from(&generated.system),
            enforcement: generated.enforcement.into(),
        })
    }

    /// Takes a system's key away: once this has answered ENFORCED, no instance accepts it. Needs
    /// `api_key_management:edit`.
    #[graphql(directive = requires_permission::apply(EDIT.to_owned()))]
    async fn revoke_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The system's id.")] system_id: ID,
    ) -> Result<RevokeKeyPayload> {
        let call = Call::of(ctx).await?;
        let id = self::system_id(&system_id)?;
        let (system, enforcement) = call.shown(call.service.revoke_key(call.caller, call.request, id).await)?;
        Ok(RevokeKeyPayload { system: System::from(&system), enforcement: enforcement.into() })
    }
}

/// What is no id of a system is as unknown as one that never existed.
fn system_id(id: &ID) -> Result<SystemId> {
    id.parse().map_err(|_| refuse(&Refusal::NotFound))
}

fn set_cookie(ctx: &Context<'_>, opened: &OpenedSession) {
    let cookie = ctx.data_unchecked::<Asker>().cookie;
    let session = &opened.caller.session;
    let lifetime = session.expires_at.since(session.created_at);
    ctx.append_http_header(SET_COOKIE, cookie.set(&opened.token, lifetime.as_secs()));
}
