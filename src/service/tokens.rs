//! Service tokens and verifier tokens: list, create, rotate and revoke them.

use std::sync::Arc;
use std::time::Duration;

use super::activity::Subject;
use super::commit::{Committed, Decision};
use super::error::Error;
use super::keys::check_expiry;
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::{AuditAction, AuditEvent, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::keys::{ApiKey, KeyDigest, Mark};
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;
use crate::domain::system_names::SystemName;
use crate::domain::systems::MAX_OVERLAP;
use crate::domain::time::Timestamp;
use crate::domain::tokens::{DEFAULT_LIFETIME, MAX_TOKENS, Token, TokenKind, TokenText};

/// Who manages the tokens of a tenant.
#[derive(Clone, Copy)]
pub enum TokenManager<'a> {
    /// A caller who holds `operator_management:edit`, in the tenant that they act in.
    Caller(&'a Caller),
    /// Somebody with access to the store, who may do everything.
    CommandLine(&'a TenantId, &'a Origin),
}

/// A token to be created.
pub struct NewToken {
    pub name: SystemName,
    /// The codes of a service token; `None`: a verifier token.
    pub permissions: Option<Permissions>,
    pub is_platform: bool,
    pub expires_at: TokenEnd,
}

/// The requested end of a token.
#[derive(Clone, Copy)]
pub enum TokenEnd {
    /// A new service token ends after [`DEFAULT_LIFETIME`], a new verifier token never. A rotated token keeps its end.
    Default,
    At(Timestamp),
    Never,
}

/// A token with a new secret. Its whole text is available only here: the store keeps its digest and its mark.
pub struct IssuedToken {
    pub text: TokenText,
    pub token: Token,
    pub enforcement: Enforcement,
}

impl TokenManager<'_> {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Caller(caller) => &caller.tenant,
            Self::CommandLine(tenant, _) => tenant,
        }
    }

    /// Refuses to issue a secret of a token with codes that the caller does not hold now, and to issue or revoke one of the
    /// platform to others.
    async fn check(&self, service: &Service, permissions: Permissions, is_platform: bool) -> Result<(), Error> {
        let Self::Caller(caller) = self else { return Ok(()) };
        if is_platform {
            caller.check_platform()?;
        }
        service.recheck_may_give(caller, permissions).await
    }
}

impl Service {
    /// Lists the service tokens or the verifier tokens of a tenant, in the order of their creation.
    pub async fn list_tokens(&self, tenant: &TenantId, is_service: bool) -> Result<Vec<Arc<Token>>, Error> {
        let mut tokens = self.tokens_of(tenant).await?;
        tokens.retain(|token| token.kind.is_service() == is_service);
        Ok(tokens)
    }

    /// Finds a token of the tenant.
    pub async fn find_token_of(&self, tenant: &TenantId, id: TokenId) -> Result<Option<Arc<Token>>, Error> {
        Ok(self.tokens_of(tenant).await?.into_iter().find(|token| token.id == id))
    }

    /// Finds when each of the tokens was last used, to the minute.
    pub async fn find_last_uses_of(&self, tokens: &[Arc<Token>]) -> Result<Vec<Option<Timestamp>>, Error> {
        let subjects: Vec<_> = tokens.iter().map(|token| Subject::Token(token.id)).collect();
        self.find_last_uses(&subjects).await
    }

    async fn tokens_of(&self, tenant: &TenantId) -> Result<Vec<Arc<Token>>, Error> {
        match self.coherence.read(|cache| cache.identities.tokens_of(tenant)) {
            Some(tokens) => Ok(tokens),
            None => Ok(self.store.list_tokens(tenant).await?.into_iter().map(Arc::new).collect()),
        }
    }

    /// Creates a token. Every instance accepts it once [`Enforcement::is_enforced`].
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a code that the caller does not hold, and for a token of the platform from others; `NAME_TAKEN`;
    /// `BAD_USER_INPUT` for an end less than a minute ahead, a code of the platform for another token, and for more than
    /// [`MAX_TOKENS`].
    pub async fn create_token(
        &self,
        manager: TokenManager<'_>,
        request: Request,
        new: NewToken,
    ) -> Result<IssuedToken, Error> {
        let NewToken { name, permissions, is_platform, expires_at } = &new;
        let tenant = manager.tenant();
        let codes = permissions.unwrap_or_default();
        manager.check(self, codes, *is_platform).await?;
        if let Some(code) = codes.minus(Permissions::all_of(*is_platform)).iter().next() {
            let message =
                format!("Only a token of the platform can hold {code}. Set isPlatform, or leave the code out.");
            return Err(Refusal::BadUserInput(message).into());
        }
        self.require_second_format()?;
        let now = self.environment.now();
        let expires_at = match (expires_at, permissions) {
            (TokenEnd::At(end), _) => Some(*end),
            (TokenEnd::Default, Some(_)) => Some(now.plus(DEFAULT_LIFETIME)),
            (TokenEnd::Default, None) | (TokenEnd::Never, _) => None,
        };
        check_expiry(expires_at, now, None)?;
        let kind = match permissions {
            Some(permissions) => TokenKind::Service { permissions: *permissions, retiring: None },
            None => TokenKind::Verifier,
        };
        let origin = self.origin_of(manager, request);
        let (kind, origin) = (&kind, &origin);
        let created = self.change(|_| async move {
            let Some(row) = self.find_tenant_to_change(tenant).await? else {
                return Ok(Decision::Refuse(Refusal::TenantNotFound));
            };
            if self.tokens_of(tenant).await?.len() >= MAX_TOKENS {
                let message = format!("A tenant has at most {MAX_TOKENS} tokens. Revoke some that are not used.");
                return Err(Refusal::BadUserInput(message).into());
            }
            manager.check(self, codes, *is_platform).await?;
            let (text, digest, mark) = self.new_secret(kind);
            let now = self.environment.now();
            let token = Token {
                id: TokenId::new(now, &mut **self.environment.rng()),
                tenant: tenant.clone(),
                name: name.clone(),
                kind: kind.clone(),
                is_platform: *is_platform,
                digest,
                mark,
                created_by: origin.actor.clone(),
                expires_at,
                revision: 1,
                created_at: now,
                updated_at: now,
            };
            let action =
                if kind.is_service() { AuditAction::ServiceTokenCreated } else { AuditAction::VerifierTokenCreated };
            let event = self.event_about_token(origin, action, &token);
            let batch = Batch::new(tenant.clone(), event).requires_tenant(&row).insert(Row::Token(token.clone()));
            Ok(Decision::commit(batch, (text, token)))
        });
        Ok(self.wait_for_token(created.await?).await)
    }

    /// Replaces the secret of a service token, and lets the one before be valid for `overlap`. Every instance accepts the
    /// new one, and none the one before after an overlap of zero, once [`Enforcement::is_enforced`].
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `FORBIDDEN` as for a new token, since the response contains a secret with its codes;
    /// `ROTATION_IN_PROGRESS`; `BAD_USER_INPUT` for an overlap out of range, an end less than a minute ahead, and a token
    /// that has expired and gets no later end.
    pub async fn rotate_token(
        &self,
        manager: TokenManager<'_>,
        request: Request,
        id: TokenId,
        overlap: Duration,
        expires_at: TokenEnd,
    ) -> Result<IssuedToken, Error> {
        if overlap > MAX_OVERLAP {
            let bound = MAX_OVERLAP.as_secs();
            return Err(Refusal::BadUserInput(format!("overlapSeconds must be from 0 to {bound} (30 days).")).into());
        }
        self.require_second_format()?;
        let tenant = manager.tenant();
        let origin = &self.origin_of(manager, request);
        let rotated = self.change(|_| async move {
            let found = self.store.find_token_by_id(id).await?;
            let Some(token) = found.filter(|token| token.tenant == *tenant && token.kind.is_service()) else {
                return Ok(Decision::Refuse(Refusal::TokenNotFound));
            };
            manager.check(self, token.permissions(), token.is_platform).await?;
            let now = self.environment.now();
            let expires_at = match expires_at {
                TokenEnd::At(end) => {
                    check_expiry(Some(end), now, None)?;
                    Some(end)
                }
                TokenEnd::Never => None,
                TokenEnd::Default if token.is_expired(now) => {
                    let message = "The token has expired. Set expiresAt, or create another token.";
                    return Err(Refusal::BadUserInput(message.to_owned()).into());
                }
                TokenEnd::Default => token.expires_at,
            };
            let (text, digest, mark) = self.new_secret(&token.kind);
            let rotated = token.rotate(digest, mark, overlap, expires_at, now)?;
            let event = self
                .event_about_token(origin, AuditAction::ServiceTokenRotated, &rotated)
                .about_previous_key(Some(token.mark));
            let batch = Batch::new(tenant.clone(), event).replace(Row::Token(rotated.clone()));
            Ok(Decision::commit(batch, (text, rotated)))
        });
        Ok(self.wait_for_token(rotated.await?).await)
    }

    /// Revokes a service token or a verifier token of the tenant. No instance accepts it once
    /// [`Enforcement::is_enforced`].
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`, for a repeat once the revocation is enforced; `FORBIDDEN` for a token of the platform from others.
    pub async fn revoke_token(
        &self,
        manager: TokenManager<'_>,
        request: Request,
        id: TokenId,
        is_service: bool,
    ) -> Result<(Token, Enforcement), Error> {
        let tenant = manager.tenant();
        let origin = &self.origin_of(manager, request);
        let revoked = self.change(|_| async move {
            let found = self.store.find_token_by_id(id).await?;
            let Some(token) = found.filter(|token| token.tenant == *tenant && token.kind.is_service() == is_service)
            else {
                return Ok(Decision::Repeat(Err(Refusal::TokenNotFound)));
            };
            manager.check(self, Permissions::NONE, token.is_platform).await?;
            Ok(Decision::commit(self.revocation(origin, &token), token))
        });
        Ok(self.wait_until_enforced(revoked.await?).await)
    }

    /// Revokes a token again in a restored store. Returns `false` if the store does not have it.
    pub(super) async fn replay_token_revocation(
        &self,
        origin: &Origin,
        tenant: &TenantId,
        id: TokenId,
    ) -> Result<bool, Error> {
        let revoked = self.change(|_| async move {
            let found = self.store.find_token_by_id(id).await?.filter(|token| token.tenant == *tenant);
            let Some(token) = found else { return Ok(Decision::Unchanged(false)) };
            Ok(Decision::commit(self.revocation(origin, &token), true))
        });
        self.require_enforced(revoked.await?).await
    }

    fn revocation(&self, origin: &Origin, token: &Token) -> Batch {
        let action =
            if token.kind.is_service() { AuditAction::ServiceTokenRevoked } else { AuditAction::VerifierTokenRevoked };
        let event = self.event(origin, action).about_token(token);
        Batch::new(token.tenant.clone(), event).delete(&Row::Token(token.clone()))
    }

    fn event_about_token(&self, origin: &Origin, action: AuditAction, token: &Token) -> AuditEvent {
        let event = self.event(origin, action).about_token(token);
        if token.kind.is_service() { event.with_permissions(token.permissions()) } else { event }
    }

    fn origin_of(&self, manager: TokenManager<'_>, request: Request) -> Origin {
        match manager {
            TokenManager::Caller(caller) => caller.origin(request),
            TokenManager::CommandLine(_, origin) => origin.clone(),
        }
    }

    fn new_secret(&self, kind: &TokenKind) -> (TokenText, KeyDigest, Mark) {
        let text = ApiKey::generate(&kind.prefix(), &mut **self.environment.rng());
        let (digest, mark) = (text.digest(&self.keyring.current().machine_tokens), text.mark());
        (text, digest, mark)
    }

    async fn wait_for_token(&self, committed: Committed<(TokenText, Token)>) -> IssuedToken {
        let ((text, token), enforcement) = self.wait_until_enforced(committed).await;
        IssuedToken { text, token, enforcement }
    }
}
