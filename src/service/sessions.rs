//! Sessions: sign in and out.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::commit::Decision;
use super::error::Error;
use super::{Caller, Request, Service, origin};
use crate::auth::devices::{Device, DeviceCookie};
use crate::auth::passwords::{Comparison, Overloaded, Place};
use crate::auth::throttle::{Bucket, Local, Stranger, Throttle};
use crate::domain::audit::{AuditAction, AuditActor};
use crate::domain::changes::{Batch, Row, RowId};
use crate::domain::operators::{Operator, Password, PasswordHash, Username};
use crate::domain::passwords::UnfitPassword;
use crate::domain::quota::{client_network, take, whole_seconds};
use crate::domain::refusal::{ErrorCode, Refusal};
use crate::domain::sessions::{MAX_SESSIONS, Session, SessionId, SessionSecret};
use crate::domain::time::Timestamp;

impl NewSession {
    /// The operator, in the new session.
    pub fn caller(&self) -> Caller {
        Caller::at_home(Arc::clone(&self.operator), Arc::clone(&self.session))
    }
}

/// An attempt to sign in.
pub struct SignIn {
    pub username: String,
    pub password: Password,
    /// The cookies of devices that the browser has sent; see [`devices`](crate::auth::devices).
    pub devices: Vec<String>,
    /// The caller of the session whose cookie the browser has sent. The sign-in replaces it.
    pub replaced: Option<Arc<Caller>>,
    /// The `User-Agent` of the client, for the list of sessions.
    pub user_agent: Option<Box<str>>,
}

/// Where a session is opened from, for the list of sessions.
struct Client {
    network: Option<IpAddr>,
    user_agent: Option<Box<str>>,
}

impl Client {
    fn of(request: Request) -> Self {
        Self { network: request.source_address.map(client_network), user_agent: None }
    }
}

/// A new session and its token.
pub struct NewSession {
    pub operator: Arc<Operator>,
    pub session: Arc<Session>,
    /// A secret, for the response and the cookie only.
    pub token: String,
    /// For the browser to be recognized at the next sign-in.
    pub device: DeviceCookie,
}

impl From<Overloaded> for Error {
    fn from(_: Overloaded) -> Self {
        Refusal::RateLimited { retry_after_seconds: 1 }.into()
    }
}

impl Service {
    /// Creates a session. An unknown username and a wrong password take the same time and return the same error.
    pub async fn sign_in(self: &Arc<Self>, request: Request, sign_in: SignIn) -> Result<NewSession, Error> {
        let attempt = self.begin_attempt(request, &sign_in).await?;
        let compared = self.compare(&attempt.place, sign_in.password, attempt.operator.as_ref()).await?;
        let (operator, rehashed) = match (attempt.operator.clone(), compared) {
            (Some(operator), Comparison::Match) => (operator, None),
            (Some(operator), Comparison::MatchNeedsRehash(hash)) => (operator, Some(hash)),
            (known, _) => {
                self.metrics.count_sign_in("refused");
                match known {
                    Some(operator) => self.record_refused_sign_in(request, &operator, ErrorCode::InvalidCredentials),
                    None => self.record_unknown_username(request),
                }
                return Err(Refusal::InvalidCredentials.into());
            }
        };
        if operator.is_password_expired(self.environment.now()) {
            self.metrics.count_sign_in("refused");
            self.record_refused_sign_in(request, &operator, ErrorCode::PasswordExpired);
            tracing::warn!(request = %request.id, "first password expired; run keymark operator set-password");
            return Err(Refusal::PasswordExpired.into());
        }
        self.refund_attempt(&attempt).await?;
        self.check_may_sign_in(request, &operator).await?;
        let replaced = match sign_in.replaced.as_ref().and_then(|caller| caller.signed_in().ok()) {
            Some((other, session)) if other.id != operator.id => {
                // Perhaps of another tenant, whose log this belongs to.
                self.end_session(other, session, request).await?;
                None
            }
            replaced => replaced.map(|(_, session)| session.id),
        };
        let client = Client { user_agent: sign_in.user_agent, ..Client::of(request) };
        let opened = self.open_session(request, operator, rehashed, attempt.device, replaced, client).await?;
        self.remember_network(request, &opened.operator).await;
        self.metrics.count_sign_in("accepted");
        Ok(opened)
    }

    /// Ends the caller's session, on every instance.
    pub async fn sign_out(&self, caller: &Caller, request: Request) -> Result<(), Error> {
        let (operator, session) = caller.signed_in()?;
        self.end_session(operator, session, request).await
    }

    async fn end_session(&self, operator: &Operator, session: &Session, request: Request) -> Result<(), Error> {
        let event = self.event(&origin(AuditActor::operator(operator), request), AuditAction::SignedOut);
        let batch = Batch::new(operator.tenant.clone(), event).delete_if_present(RowId::Session(session.id));
        self.require_enforced(self.commit(batch).await?).await
    }

    /// Refuses an operator whose password was right, and who cannot sign in.
    async fn check_may_sign_in(self: &Arc<Self>, request: Request, operator: &Operator) -> Result<(), Error> {
        let tenant = self.find_tenant(&operator.tenant).await?;
        let (refusal, code) = if tenant.is_some_and(|tenant| tenant.suspended.is_some()) {
            (Refusal::TenantSuspended, ErrorCode::TenantSuspended)
        } else if operator.suspended_at.is_some() {
            (Refusal::OperatorSuspended, ErrorCode::Forbidden)
        } else {
            return Ok(());
        };
        self.metrics.count_sign_in("refused");
        self.record_refused_sign_in(request, operator, code);
        Err(refusal.into())
    }

    /// Changes the caller's password. Ends all their sessions, and creates a new one.
    pub async fn change_password(
        self: &Arc<Self>,
        caller: &Caller,
        request: Request,
        current: Password,
        new: Password,
    ) -> Result<NewSession, Error> {
        let (operator, session) = caller.signed_in()?;
        if operator.must_change_password() && current.is_same_as(&new) {
            return Err(Refusal::InvalidPassword(UnfitPassword::Unchanged).into());
        }
        let attempt = self.begin_change_of_password(request, session.id).await?;
        match self.compare(&attempt.place, current, Some(operator)).await? {
            Comparison::Mismatch => {
                self.metrics.count_sign_in("refused");
                self.record_refused_sign_in(request, operator, ErrorCode::InvalidCredentials);
                return Err(Refusal::InvalidCredentials.into());
            }
            Comparison::Match | Comparison::MatchNeedsRehash(_) => {}
        }
        self.refund_attempt(&attempt).await?;
        drop(attempt);
        let hash = self.passwords.hash(new).await?;
        let changed = self.change(|_| async {
            // The password that was compared must still be the stored one.
            let stored = self.store.find_operator_to_change(operator.id).await?;
            let stored = stored.filter(|stored| stored.password_hash == operator.password_hash);
            let (stored, now) = (stored.ok_or(Refusal::Conflict)?, self.environment.now());
            // The session may have been ended while passwords were hashed.
            if !session.is_valid_for(&stored, now) || self.store.find_session_to_change(session.id).await?.is_none() {
                return Err(Refusal::Unauthenticated.into());
            }
            let previous = Row::Session((**session).clone());
            let changed = stored.with_password(hash.clone(), now);
            let client = Client { network: session.network, user_agent: session.user_agent.clone() };
            let (session, secret) = self.new_session(&changed, client);
            let origin = origin(AuditActor::operator(operator), request);
            let event = self.event(&origin, AuditAction::PasswordChanged).about_operator(&changed);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            let batch = batch.requires(&previous).insert(Row::Session(session.clone()));
            Ok(Decision::commit(batch, self.opened(changed, session, &secret, None)))
        });
        let opened = self.require_enforced(changed.await?).await?;
        self.purge_ended_sessions(operator.id, opened.operator.password_version);
        self.remember_network(request, &opened.operator).await;
        Ok(opened)
    }

    async fn open_session(
        &self,
        request: Request,
        operator: Operator,
        rehashed: Option<PasswordHash>,
        device: Option<Device>,
        replaced: Option<SessionId>,
        client: Client,
    ) -> Result<NewSession, Error> {
        let ended = self.sessions_to_end(&operator, replaced).await?;
        let (session, secret) = self.new_session(&operator, client);
        let event = self.event(&origin(AuditActor::operator(&operator), request), AuditAction::SignedIn);
        let batch = Batch::new(operator.tenant.clone(), event).insert(Row::Session(session.clone()));
        let batch = match rehashed {
            None => batch.requires(&Row::Operator(operator.clone())),
            Some(hash) => batch.replace(Row::Operator(operator.with_rehashed_password(hash, session.created_at))),
        };
        let batch = ended.iter().fold(batch, |batch, id| batch.delete_if_present(RowId::Session(*id)));
        // Not retried: a conflict means that the operator was removed or changed while the password was compared.
        let committed = self.commit(batch).await?;
        if ended.is_empty() {
            // A session that is not cached is looked up in the store.
            committed.without_waiting();
        } else {
            // Signed in all the same if the end of the others is not confirmed in time.
            self.wait_until_enforced(committed).await;
        }
        Ok(self.opened(operator, session, &secret, device))
    }

    /// The sessions that end when the operator opens another one: the one that it replaces, and the oldest beyond
    /// [`MAX_SESSIONS`]. Of concurrent sign-ins each may leave one too many to the next.
    async fn sessions_to_end(&self, operator: &Operator, replaced: Option<SessionId>) -> Result<Vec<SessionId>, Error> {
        let oldest = self.store.list_oldest_sessions(operator.id, operator.password_version, 2 * MAX_SESSIONS).await?;
        let others: Vec<_> = oldest.iter().map(|session| session.id).filter(|id| Some(*id) != replaced).collect();
        let excess = (others.len() + 1).saturating_sub(MAX_SESSIONS);
        Ok(replaced.into_iter().chain(others.into_iter().take(excess)).collect())
    }

    /// The session with its token, and the cookie of the browser: of `device`, or of a new one.
    fn opened(
        &self,
        operator: Operator,
        session: Session,
        secret: &SessionSecret,
        device: Option<Device>,
    ) -> NewSession {
        let token = self.tokens.issue(&session, secret);
        let device = device.unwrap_or_else(|| Device::new(&operator, &mut **self.environment.rng()));
        let device = self.devices.issue(&device, &operator.username);
        NewSession { operator: Arc::new(operator), session: Arc::new(session), token, device }
    }

    fn new_session(&self, operator: &Operator, client: Client) -> (Session, SessionSecret) {
        let now = self.environment.now();
        let secret = SessionSecret::generate(&mut **self.environment.rng());
        let session = Session {
            id: secret.id(),
            tenant: operator.tenant.clone(),
            operator: operator.id,
            password_version: operator.password_version,
            created_at: now,
            expires_at: now.plus(self.settings.session_lifetime),
            network: client.network,
            user_agent: client.user_agent,
        };
        (session, secret)
    }

    async fn compare(
        &self,
        place: &Place,
        password: Password,
        operator: Option<&Operator>,
    ) -> Result<Comparison, Overloaded> {
        let stored = operator.map(|operator| operator.password_hash.clone());
        let password = if password.is_too_long() { Password::unchecked(String::new()) } else { password };
        self.passwords.compare(place, password, stored).await
    }

    /// Counts an attempt to sign in, and finds the operator. Refuses it if there were too many.
    ///
    /// An attempt that is refused here has written nothing to the store, except that one which loses a race for the last
    /// token of a bucket has taken its others.
    async fn begin_attempt(&self, request: Request, sign_in: &SignIn) -> Result<Attempt, Error> {
        let (now, address) = (self.environment.now(), request.source_address);
        let username = sign_in.username.parse::<Username>().ok();
        // Texts that are not usernames count as one.
        let name = username.as_ref().map_or("?", Username::as_str);
        let presented = username
            .as_ref()
            .and_then(|username| sign_in.devices.iter().find_map(|cookie| self.devices.read(username, cookie)));
        let mut local = match &presented {
            Some(device) => vec![self.throttle.device(device)],
            None => self.throttle.local(name, address),
        };
        let mut counted = self.throttle.count(&local, now);
        if let Local::Limited(wait) = counted {
            return Err(self.limited(request, wait));
        }
        let place = self.passwords.queue().map_err(|overloaded| self.overloaded(request, overloaded))?;
        let operator = match &username {
            Some(username) => self.store.find_operator_by_username(username).await?,
            None => None,
        };
        let device = presented.zip(operator.as_ref()).filter(|(device, operator)| device.belongs_to(operator));
        let device = device.map(|(device, _)| device);
        if presented.is_some() && device.is_none() {
            local = self.throttle.local(name, address);
            counted = self.throttle.count(&local, now);
        }
        let taken = match (counted, device, &operator) {
            (Local::Limited(wait), ..) => return Err(self.limited(request, wait)),
            (_, Some(_), _) => self.take_all(request, local.clone(), now).await?,
            (counted, None, operator) => {
                let known = self.throttle.known_network(name, operator.as_ref(), address);
                let is_known = self.find_arrival(&known).await? > now;
                match (operator, counted) {
                    (Some(operator), _) if is_known => {
                        self.take_all(request, self.throttle.from_known_network(operator, address), now).await?
                    }
                    (_, Local::PassedIfKnown(wait)) => return Err(self.limited(request, wait)),
                    (operator, _) => {
                        place.check_stranger().map_err(|overloaded| self.overloaded(request, overloaded))?;
                        let stranger = self.throttle.from_stranger(name, operator.as_ref(), address);
                        self.take_as_stranger(request, stranger, now).await?
                    }
                }
            }
        };
        Ok(Attempt { place, operator, device, local, taken })
    }

    /// Counts an attempt to enter the password of a signed-in operator again.
    async fn begin_change_of_password(&self, request: Request, session: SessionId) -> Result<Attempt, Error> {
        let now = self.environment.now();
        let local = vec![self.throttle.session(session)];
        if let Local::Limited(wait) = self.throttle.count(&local, now) {
            return Err(self.limited(request, wait));
        }
        let place = self.passwords.queue().map_err(|overloaded| self.overloaded(request, overloaded))?;
        let taken = self.take_all(request, local.clone(), now).await?;
        Ok(Attempt { place, operator: None, device: None, local, taken })
    }

    /// Takes a token from each bucket, and none if one of them is empty.
    async fn take_all(&self, request: Request, buckets: Vec<Bucket>, now: Timestamp) -> Result<Vec<Bucket>, Error> {
        let waits = self.find_waits(&buckets, now).await?;
        self.check_waits(request, waits)?;
        let waits = self.take_each(&buckets, now).await?;
        self.check_waits(request, waits)?;
        Ok(buckets)
    }

    /// The same for a stranger: a token of the account is taken from the bucket for first attempts, if the network has
    /// one left, or else from the bucket for further ones.
    async fn take_as_stranger(
        &self,
        request: Request,
        stranger: Stranger,
        now: Timestamp,
    ) -> Result<Vec<Bucket>, Error> {
        let Stranger { mut common, first_of_network, first, further } = stranger;
        let own = [&first_of_network, &first, &further].map(Clone::clone);
        let mut waits = self.find_waits(&[&common[..], &own].concat(), now).await?;
        let account = waits.split_off(common.len());
        self.check_waits(request, waits)?;
        let may_be_first = account[0].is_none() && account[1].is_none();
        if !may_be_first {
            self.check_waits(request, vec![account[2]])?;
        }
        // Another attempt may take the last token of any bucket meanwhile.
        common.extend(may_be_first.then_some(first_of_network));
        let mut waits = self.take_each(&common, now).await?;
        let is_first = may_be_first && waits.pop().is_some_and(|wait| wait.is_none());
        if may_be_first && !is_first {
            common.pop();
        }
        self.check_waits(request, waits)?;
        if is_first && self.take_each(std::slice::from_ref(&first), now).await? == [None] {
            common.push(first);
        } else {
            let waits = self.take_each(std::slice::from_ref(&further), now).await?;
            self.check_waits(request, waits)?;
            common.push(further);
        }
        Ok(common)
    }

    /// Refuses an attempt that has to wait for a bucket.
    fn check_waits(&self, request: Request, waits: Vec<Option<Duration>>) -> Result<(), Error> {
        waits.into_iter().flatten().max().map_or(Ok(()), |wait| Err(self.limited(request, wait)))
    }

    /// How long it takes until each bucket has a token.
    async fn find_waits(&self, buckets: &[Bucket], now: Timestamp) -> Result<Vec<Option<Duration>>, Error> {
        let names: Vec<_> = buckets.iter().map(|bucket| bucket.name.clone()).collect();
        let arrivals = self.store.find_arrivals(&names).await?;
        Ok(buckets.iter().zip(arrivals).map(|(bucket, arrival)| take(arrival, bucket.quota, now).err()).collect())
    }

    /// Takes a token from each bucket that has one, and returns how long the others take to have one.
    async fn take_each(&self, buckets: &[Bucket], now: Timestamp) -> Result<Vec<Option<Duration>>, Error> {
        let taking = buckets.iter().map(|bucket| self.store.take_token(&bucket.name, bucket.quota, now));
        let taken = futures::future::try_join_all(taking).await?;
        Ok(taken.into_iter().map(Result::err).collect())
    }

    async fn find_arrival(&self, bucket: &str) -> Result<Timestamp, Error> {
        let found = self.store.find_arrivals(&[bucket.to_owned()]).await?;
        Ok(found.first().copied().unwrap_or_default())
    }

    fn limited(&self, request: Request, wait: Duration) -> Error {
        self.metrics.count_sign_in("limited");
        self.sign_in_log.warn("sign-in limited", request.source_address, self.environment.now());
        Refusal::RateLimited { retry_after_seconds: whole_seconds(wait).max(1) }.into()
    }

    fn overloaded(&self, request: Request, overloaded: Overloaded) -> Error {
        self.metrics.count_sign_in("limited");
        let now = self.environment.now();
        self.sign_in_log.warn("sign-in limited; too many passwords are being hashed", request.source_address, now);
        overloaded.into()
    }

    /// Returns the tokens of an attempt with the correct password.
    async fn refund_attempt(&self, attempt: &Attempt) -> Result<(), Error> {
        self.throttle.uncount(&attempt.local);
        let returning = attempt.taken.iter().map(|bucket| self.store.return_token(&bucket.name, bucket.quota));
        futures::future::try_join_all(returning).await?;
        Ok(())
    }

    /// Makes the network of a request known to be the operator's.
    async fn remember_network(&self, request: Request, operator: &Operator) {
        // The session is open, so it is no failure of the request.
        if let Err(error) = self.try_to_remember_network(request, operator).await {
            tracing::warn!(%error, cause = error.source(), "network of a sign-in not remembered");
        }
    }

    async fn try_to_remember_network(&self, request: Request, operator: &Operator) -> Result<(), Error> {
        let known = self.throttle.known_network(operator.username.as_str(), Some(operator), request.source_address);
        let (renewal, until) = Throttle::known_network_times(self.environment.now());
        if self.find_arrival(&known).await? < renewal {
            self.store.put_arrival(&known, until).await?;
        }
        Ok(())
    }

    fn record_unknown_username(&self, request: Request) {
        self.metrics.count_unknown_username();
        self.sign_in_log.warn("sign-in with an unknown username", request.source_address, self.environment.now());
    }

    /// Records after the response, so that it takes the same time whether or not the operator exists.
    fn record_refused_sign_in(self: &Arc<Self>, request: Request, operator: &Operator, code: ErrorCode) {
        let event =
            self.event(&origin(AuditActor::operator(operator), request), AuditAction::SignInRefused).refused(code, 1);
        self.record_refusal_after_response(operator.tenant.clone(), event);
    }
}

/// An attempt that may compare its password.
struct Attempt {
    place: Place,
    operator: Option<Operator>,
    /// The browser, if the operator has signed in from it.
    device: Option<Device>,
    /// The buckets in which it was counted in memory.
    local: Vec<Bucket>,
    /// The buckets in the store from which it has taken a token.
    taken: Vec<Bucket>,
}
