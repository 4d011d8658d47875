//! Callers: the operators and service tokens on whose behalf operations run, and the tenant that each acts in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::activity::{self, Subject};
use super::error::Error;
use super::{Request, Service, origin};
use crate::auth::tokens::SessionRef;
use crate::domain::audit::{AuditActor, Origin};
use crate::domain::ids::{ActorId, OperatorId, TenantId};
use crate::domain::keys::KeyDigest;
use crate::domain::operators::Operator;
use crate::domain::permissions::{Permission, Permissions};
use crate::domain::quota::{Quota, client_network, whole_seconds};
use crate::domain::refusal::Refusal;
use crate::domain::sessions::Session;
use crate::domain::tenants::Tenant;
use crate::domain::time::Timestamp;
use crate::domain::tokens::{PresentedToken, Token};
use crate::store::StoreError;

/// Unknown service tokens of one source that are looked up in the store while the cache is bypassed.
const BAD_TOKENS: Quota = Quota { burst: 100, interval: Duration::from_secs(1) };

/// Credentials that were presented, and the tenant that the request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRef {
    pub credentials: Credentials,
    pub tenant: RequestedTenant,
}

/// The tenant that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedTenant {
    /// The caller's own.
    Home,
    Named(TenantId),
    /// One whose id is malformed.
    Nonexistent,
}

impl RequestedTenant {
    /// Parses an id as it was sent; `None`: it was not readable.
    pub fn parse(id: Option<&str>) -> Self {
        id.and_then(|id| id.parse().ok()).map_or(Self::Nonexistent, Self::Named)
    }
}

/// What a caller is found by. Neither a session nor a token is known to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    Session(SessionRef),
    Token(KeyDigest),
}

/// A caller, as of the begin of the request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub identity: Identity,
    /// The tenant that the caller acts in.
    pub tenant: TenantId,
}

/// Who a caller is.
#[derive(Clone, Debug)]
pub enum Identity {
    Operator {
        operator: Arc<Operator>,
        session: Arc<Session>,
    },
    Token {
        token: Arc<Token>,
        /// The digest of the secret that was presented, which may be the retiring one.
        digest: KeyDigest,
    },
}

impl Identity {
    fn home(&self) -> &TenantId {
        match self {
            Self::Operator { operator, .. } => &operator.tenant,
            Self::Token { token, .. } => &token.tenant,
        }
    }
}

impl Caller {
    /// An operator who acts in their own tenant.
    pub fn at_home(operator: Arc<Operator>, session: Arc<Session>) -> Self {
        let tenant = operator.tenant.clone();
        Self { identity: Identity::Operator { operator, session }, tenant }
    }

    pub fn permissions(&self) -> Permissions {
        match &self.identity {
            Identity::Operator { operator, .. } => operator.permissions,
            Identity::Token { token, .. } => token.permissions(),
        }
    }

    /// Refuses a caller without the permission.
    pub fn check(&self, permission: Permission) -> Result<(), Refusal> {
        if self.permissions().contains(permission) { Ok(()) } else { Err(Refusal::Forbidden(permission)) }
    }

    /// Refuses a caller who is not of the platform.
    pub fn check_platform(&self) -> Result<(), Refusal> {
        if self.is_platform() { Ok(()) } else { Err(Refusal::PlatformOnly) }
    }

    /// Refuses to give permission codes that the caller does not hold.
    pub fn check_may_give(&self, permissions: Permissions) -> Result<(), Refusal> {
        match permissions.minus(self.permissions()).iter().next() {
            Some(lacking) => Err(Refusal::Forbidden(lacking)),
            None => Ok(()),
        }
    }

    /// The operator and the session.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a service token.
    pub fn signed_in(&self) -> Result<(&Arc<Operator>, &Arc<Session>), Refusal> {
        match &self.identity {
            Identity::Operator { operator, session } => Ok((operator, session)),
            Identity::Token { .. } => Err(Refusal::OperatorOnly),
        }
    }

    pub fn is_platform(&self) -> bool {
        match &self.identity {
            Identity::Operator { operator, .. } => operator.is_platform,
            Identity::Token { token, .. } => token.is_platform,
        }
    }

    /// The tenant that the caller belongs to.
    pub fn home(&self) -> &TenantId {
        self.identity.home()
    }

    pub fn id(&self) -> ActorId {
        match &self.identity {
            Identity::Operator { operator, .. } => ActorId::Operator(operator.id),
            Identity::Token { token, .. } => ActorId::Token(token.id),
        }
    }

    /// Whether the caller must change their password before anything else.
    pub fn must_change_password(&self) -> bool {
        match &self.identity {
            Identity::Operator { operator, .. } => operator.must_change_password(),
            Identity::Token { .. } => false,
        }
    }

    /// When the session or the token ends. `None`: not by itself.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.identity {
            Identity::Operator { session, .. } => Some(session.expires_at),
            Identity::Token { token, digest } => token.end_of(digest),
        }
    }

    /// The caller, as the audit log of the tenant that they act in names them.
    pub fn actor(&self) -> AuditActor {
        let actor = match &self.identity {
            Identity::Operator { operator, .. } => AuditActor::operator(operator),
            Identity::Token { token, .. } => AuditActor::service_token(token.id, &token.name),
        };
        AuditActor { is_platform: self.tenant != *self.home(), ..actor }
    }

    pub(super) fn origin(&self, request: Request) -> Origin {
        origin(self.actor(), request)
    }

    /// The caller, acting in their own tenant or, if of the platform, in another one that is known to exist.
    pub(super) fn acting_in(&self, tenant: &TenantId) -> Self {
        Self { identity: self.identity.clone(), tenant: tenant.clone() }
    }

    pub fn reference(&self) -> CallerRef {
        let credentials = match &self.identity {
            Identity::Operator { operator, session } => {
                Credentials::Session(SessionRef { session: session.id, operator: operator.id })
            }
            Identity::Token { digest, .. } => Credentials::Token(*digest),
        };
        CallerRef { credentials, tenant: RequestedTenant::Named(self.tenant.clone()) }
    }
}

/// An identity, and the row of its tenant, if that has one.
type Found = (Identity, Option<Arc<Tenant>>);
/// A token, the digest of the secret that was presented, and the row of the token's tenant.
type FoundToken = ((Arc<Token>, KeyDigest), Option<Arc<Tenant>>);

/// A verifier token that was presented.
pub enum FoundVerifierToken {
    Valid(Arc<Token>),
    /// Malformed, never created, or revoked.
    Unknown,
    Expired,
    OfSuspendedTenant,
}

impl Service {
    /// Reads a service token as it was presented. `None` if it is malformed, unknown or has ended.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or must not be, since the source has presented too many unknown tokens.
    pub async fn read_service_token(&self, presented: &str, request: Request) -> Result<Option<Credentials>, Error> {
        let Ok(presented) = PresentedToken::parse_service(presented) else { return Ok(None) };
        let digests: Vec<_> = self.token_digests(presented).collect();
        Ok(self.find_token(&digests, request.source_address).await?.map(|(_, digest)| Credentials::Token(digest)))
    }

    /// Finds the verifier token that was presented. Counts as a use if it is valid.
    ///
    /// # Errors
    ///
    /// As [`read_service_token`](Self::read_service_token).
    pub async fn find_verifier_token(
        &self,
        presented: &str,
        source: impl FnOnce() -> IpAddr,
    ) -> Result<FoundVerifierToken, Error> {
        let Ok(presented) = PresentedToken::parse_verifier(presented) else { return Ok(FoundVerifierToken::Unknown) };
        let digests: Vec<_> = self.token_digests(presented).collect();
        let cached = self.coherence.read(|cache| {
            let found = cache.identities.find_token(&digests)?;
            let tenant = cache.identities.find_tenant(&found.0.tenant);
            Some((found, tenant))
        });
        let found = match cached {
            Some(found) => found,
            // Boxed, since it is rarely needed.
            None => Box::pin(self.find_stored_token(&digests, Some(source()))).await?,
        };
        let Some(((token, digest), tenant)) = found else { return Ok(FoundVerifierToken::Unknown) };
        if tenant.is_some_and(|tenant| tenant.suspended.is_some()) {
            return Ok(FoundVerifierToken::OfSuspendedTenant);
        }
        if !token.is_valid(&digest, self.environment.now()) {
            return Ok(FoundVerifierToken::Expired);
        }
        self.activity.record(Subject::Token(token.id), self.environment.now());
        Ok(FoundVerifierToken::Valid(token))
    }

    /// The digests of a token under each root secret, the current one first.
    pub(super) fn token_digests(&self, presented: PresentedToken<'_>) -> impl Iterator<Item = KeyDigest> {
        self.keyring.iter().map(move |keys| presented.digest(&keys.machine_tokens))
    }

    /// Finds the token with one of these digests, and which of them it is. The cache is decisive while it may be used,
    /// since a new token is answered when every instance has it.
    async fn find_token(
        &self,
        digests: &[KeyDigest],
        source: Option<IpAddr>,
    ) -> Result<Option<(Arc<Token>, KeyDigest)>, Error> {
        if let Some(found) = self.coherence.read(|cache| cache.identities.find_token(digests)) {
            return Ok(found);
        }
        // Boxed, since it is rarely needed.
        Ok(Box::pin(self.find_stored_token(digests, source)).await?.map(|(found, _)| found))
    }

    async fn find_stored_token(
        &self,
        digests: &[KeyDigest],
        source: Option<IpAddr>,
    ) -> Result<Option<FoundToken>, Error> {
        let source = source.map(client_network);
        let now = self.environment.now();
        if let Some(source) = &source
            && self.bad_tokens.is_exhausted(source, BAD_TOKENS, now)
        {
            let cause = "cache bypassed, and too many unknown tokens from this source";
            return Err(StoreError::Unavailable(cause.into()).into());
        }
        let Some(token) = self.store.find_token(digests).await? else {
            if let Some(source) = &source {
                self.bad_tokens.count(source, BAD_TOKENS, now);
            }
            return Ok(None);
        };
        let digest = digests.iter().copied().find(|digest| token.digests().any(|known| known == *digest));
        let Some(digest) = digest else { return Ok(None) };
        let tenant = self.store.find_tenant(&token.tenant).await?.map(Arc::new);
        Ok(Some(((Arc::new(token), digest), tenant)))
    }

    /// Finds the caller of a request, and counts as a use of the session or token. Returns `None` if the session or token
    /// has ended.
    ///
    /// # Errors
    ///
    /// `TENANT_SUSPENDED` if the caller's own tenant is suspended; `FORBIDDEN` or `NOT_FOUND` if the caller may not act in
    /// the tenant; `RATE_LIMITED` for a token with too many calls.
    pub async fn find_caller(&self, reference: &CallerRef) -> Result<Option<Caller>, Error> {
        let found = self.find_valid_caller(reference).await?;
        if let Some(caller) = &found {
            self.record_use(caller)?;
        }
        Ok(found)
    }

    fn record_use(&self, caller: &Caller) -> Result<(), Error> {
        let now = self.environment.now();
        match &caller.identity {
            Identity::Operator { operator, session } => {
                self.activity.record(Subject::Session(session.id), now);
                self.activity.record(Subject::Operator(operator.id), now);
            }
            Identity::Token { token, .. } => {
                if let Some(wait) = self.token_calls.count(&token.id, self.settings.token_calls, now) {
                    self.metrics.count_limited_token_call();
                    return Err(Refusal::RateLimited { retry_after_seconds: whole_seconds(wait).max(1) }.into());
                }
                self.activity.record(Subject::Token(token.id), now);
            }
        }
        Ok(())
    }

    /// Finds the caller again, with their current permissions. Refuses a caller whose session or token has ended. Does not
    /// count as a use.
    pub async fn refresh_caller(&self, caller: &Caller) -> Result<Caller, Error> {
        Ok(self.find_valid_caller(&caller.reference()).await?.ok_or(Refusal::Unauthenticated)?)
    }

    async fn find_valid_caller(&self, reference: &CallerRef) -> Result<Option<Caller>, Error> {
        let found = match reference.credentials {
            Credentials::Session(session) => self.find_operator_of_session(session).await?,
            Credentials::Token(digest) => self.find_owner_of_token(digest).await?,
        };
        let Some((identity, home)) = found else { return Ok(None) };
        let now = self.environment.now();
        let is_valid = match &identity {
            Identity::Operator { operator, session } => {
                let idle = self.longest_idle(home.as_deref());
                session.is_valid_for(operator, now) && self.is_active(session, idle, now).await?
            }
            Identity::Token { token, digest } => token.is_valid(digest, now),
        };
        if !is_valid {
            return Ok(None);
        }
        if home.is_some_and(|tenant| tenant.suspended.is_some()) {
            return Err(Refusal::TenantSuspended.into());
        }
        let caller = Caller { tenant: identity.home().clone(), identity };
        match &reference.tenant {
            RequestedTenant::Home => Ok(Some(caller)),
            RequestedTenant::Named(tenant) if *tenant == caller.tenant => Ok(Some(caller)),
            RequestedTenant::Named(tenant) => self.check_other_tenant(caller, Some(tenant)).await.map(Some),
            RequestedTenant::Nonexistent => self.check_other_tenant(caller, None).await.map(Some),
        }
    }

    /// Lets a caller of the platform act in another tenant. `None`: one that cannot exist.
    async fn check_other_tenant(&self, caller: Caller, tenant: Option<&TenantId>) -> Result<Caller, Error> {
        if !caller.is_platform() {
            return Err(Refusal::ForeignTenant.into());
        }
        if let Some(tenant) = tenant
            // Boxed, since only callers of the platform need it.
            && Box::pin(self.find_tenant(tenant)).await?.is_some()
        {
            return Ok(caller.acting_in(tenant));
        }
        caller.check(Permission::ViewTenants)?;
        Err(Refusal::TenantNotFound.into())
    }

    /// Reads the store if the cache does not contain the session: it may have been created on another instance just now.
    async fn find_operator_of_session(&self, reference: SessionRef) -> Result<Option<Found>, Error> {
        let cached = self.coherence.read(|cache| {
            let session = cache.identities.find_session(&reference.session)?;
            let operator = cache.identities.find_operator(reference.operator)?;
            let tenant = cache.identities.find_tenant(&operator.tenant);
            // After the look-up, as for keys.
            let is_readable = cache.is_readable(&operator.tenant);
            is_readable.then_some((Identity::Operator { operator, session }, tenant))
        });
        if let Some(found) = cached.flatten() {
            return Ok(Some(found));
        }
        // Boxed, since it is large and rarely needed, and would be part of the future of each subscriber.
        let stored = Box::pin(async {
            let (session, operator) = tokio::try_join!(
                self.store.find_session(reference.session),
                self.store.find_operator(reference.operator)
            )?;
            let Some((session, operator)) = session.zip(operator) else { return Ok(None) };
            let tenant = self.store.find_tenant(&operator.tenant).await?.map(Arc::new);
            Ok::<_, StoreError>(Some((session, operator, tenant)))
        });
        Ok(stored.await?.map(|(session, operator, tenant)| {
            let (operator, session) = (Arc::new(operator), Arc::new(session));
            (Identity::Operator { operator, session }, tenant)
        }))
    }

    async fn find_owner_of_token(&self, digest: KeyDigest) -> Result<Option<Found>, Error> {
        let cached = self.coherence.read(|cache| {
            let Some((token, digest)) = cache.identities.find_token(&[digest]) else { return Some(None) };
            let tenant = cache.identities.find_tenant(&token.tenant);
            cache.is_readable(&token.tenant).then_some(Some((Identity::Token { token, digest }, tenant)))
        });
        if let Some(found) = cached.flatten() {
            return Ok(found);
        }
        let stored = Box::pin(async {
            let Some(token) = self.store.find_token(&[digest]).await? else { return Ok(None) };
            let tenant = self.store.find_tenant(&token.tenant).await?.map(Arc::new);
            Ok::<_, StoreError>(Some((Identity::Token { token: Arc::new(token), digest }, tenant)))
        });
        Ok(stored.await?)
    }

    /// How long a session of the tenant may be idle: what the server and the tenant's policy both allow.
    pub(super) fn longest_idle(&self, tenant: Option<&Tenant>) -> Option<Duration> {
        let of_tenant = tenant.and_then(|tenant| tenant.policy.session_idle());
        self.settings.session_idle.into_iter().chain(of_tenant).min()
    }

    /// Returns true unless the session has been idle for too long.
    async fn is_active(&self, session: &Session, idle: Option<Duration>, now: Timestamp) -> Result<bool, Error> {
        let Some(idle) = idle else { return Ok(true) };
        let subject = Subject::Session(session.id);
        let last_use = self.activity.last_use(subject).unwrap_or(session.created_at);
        if now < activity::end(last_use, idle) {
            return Ok(true);
        }
        // Another instance may have seen it in use. Boxed, since it is rarely needed, like the look-up above.
        let written = Box::pin(async { self.find_written_uses(&[subject]).await }).await?;
        let Some(at) = written.first().copied().flatten() else { return Ok(false) };
        self.activity.read(subject, at);
        Ok(now < activity::end(at, idle))
    }

    /// How long the caller's session remains active, as far as this instance has seen, or the caller's token valid. `None`
    /// if the session may be idle, or the token does not expire.
    pub(super) fn active_for(&self, caller: &Caller) -> Option<Duration> {
        let (operator, session) = match &caller.identity {
            Identity::Operator { operator, session } => (operator, session),
            // A rotation changes the end of a secret that a socket was opened with.
            Identity::Token { token, digest } => {
                return token.end_of(digest).map(|end| end.since(self.environment.now()));
            }
        };
        let tenant = self.coherence.read(|cache| cache.identities.find_tenant(&operator.tenant)).flatten();
        let idle = self.longest_idle(tenant.as_deref())?;
        let last_use = self.activity.last_use(Subject::Session(session.id)).unwrap_or(session.created_at);
        Some(activity::end(last_use, idle).since(self.environment.now()))
    }

    /// Finds when each was last used on any instance, to the minute. `None`: not within what is kept.
    pub async fn find_last_uses(&self, subjects: &[Subject]) -> Result<Vec<Option<Timestamp>>, Error> {
        let written = self.find_written_uses(subjects).await?;
        Ok(subjects
            .iter()
            .zip(written)
            .map(|(subject, written)| self.activity.last_use(*subject).max(written))
            .collect())
    }

    /// The same for operators.
    pub async fn find_last_uses_of_operators(&self, operators: &[OperatorId]) -> Result<Vec<Option<Timestamp>>, Error> {
        let subjects: Vec<_> = operators.iter().map(|id| Subject::Operator(*id)).collect();
        self.find_last_uses(&subjects).await
    }

    async fn find_written_uses(&self, subjects: &[Subject]) -> Result<Vec<Option<Timestamp>>, Error> {
        let buckets: Vec<_> = subjects.iter().map(|subject| subject.bucket()).collect();
        let arrivals = self.store.find_arrivals(&buckets).await?;
        Ok(subjects.iter().zip(arrivals).map(|(subject, arrival)| subject.used_at(arrival)).collect())
    }

    /// Writes when sessions, operators and tokens were last used, as far as it is not written yet.
    pub async fn write_activity(&self) {
        let unwritten = self.activity.take_unwritten(self.environment.now());
        let write = async |(subject, at): (Subject, Timestamp)| {
            if let Err(error) = self.store.put_arrival(&subject.bucket(), subject.arrival(at)).await {
                tracing::warn!(%error, "last use not written; retried in a minute");
                self.activity.put_back(subject);
            }
        };
        for chunk in unwritten.chunks(CONCURRENT_WRITES) {
            futures::future::join_all(chunk.iter().copied().map(write)).await;
        }
    }
}

/// Writes of last uses at the same time.
const CONCURRENT_WRITES: usize = 16;
