//! Sessions: sign in and out, and find the caller of a request.

use std::sync::Arc;

use super::commit::Decision;
use super::error::Error;
use super::{Caller, Request, Service, origin};
use crate::auth::passwords::{Comparison, Overloaded};
use crate::auth::throttle;
use crate::auth::tokens::SessionRef;
use crate::domain::audit::{AuditAction, AuditActor};
use crate::domain::changes::{Batch, Row, RowId};
use crate::domain::operators::{Operator, Password, PasswordHash, Username};
use crate::domain::quota::{Quota, whole_seconds};
use crate::domain::refusal::{ErrorCode, Refusal};
use crate::domain::sessions::{Session, SessionSecret};

/// A new session and its token.
pub struct NewSession {
    pub caller: Caller,
    /// A secret, for the response and the cookie only.
    pub token: String,
}

impl From<Overloaded> for Error {
    fn from(_: Overloaded) -> Self {
        Refusal::RateLimited { retry_after_seconds: 1 }.into()
    }
}

impl Service {
    /// Finds the operator of a session. Returns `None` if the session has ended or the operator was removed. Reads the
    /// store if the cache does not contain them: the session may have been created on another instance just now.
    pub async fn find_caller(&self, reference: SessionRef) -> Result<Option<Caller>, Error> {
        let cached = self.coherence.read(|cache| {
            cache.identities.find_session(&reference.session).zip(cache.identities.find_operator(reference.operator))
        });
        let (session, operator) = match cached.flatten() {
            Some(cached) => cached,
            None => {
                // Boxed, since it is large and rarely needed, and would be part of the future of each subscriber.
                let stored = Box::pin(async {
                    tokio::try_join!(
                        self.store.find_session(reference.session),
                        self.store.find_operator(reference.operator)
                    )
                });
                let (Some(session), Some(operator)) = stored.await? else { return Ok(None) };
                (session, Arc::new(operator))
            }
        };
        let is_valid = session.is_valid_for(&operator, self.environment.now());
        Ok(is_valid.then_some(Caller { operator, session }))
    }

    /// Finds the caller again, with their current permissions. Refuses a caller whose session has ended.
    pub async fn refresh_caller(&self, caller: &Caller) -> Result<Caller, Error> {
        let reference = SessionRef { session: caller.session.id, operator: caller.operator.id };
        Ok(self.find_caller(reference).await?.ok_or(Refusal::Unauthenticated)?)
    }

    /// Creates a session. An unknown username and a wrong password take the same time and return the same error.
    pub async fn sign_in(
        self: &Arc<Self>,
        request: Request,
        username: &str,
        password: Password,
    ) -> Result<NewSession, Error> {
        let attempt = self.begin_attempt(request, username).await?;
        let operator = match username.parse::<Username>() {
            Ok(username) => self.store.find_operator_by_username(&username).await?,
            Err(_) => None,
        };
        let Ok(compared) = self.compare(password, operator.as_ref()).await else {
            return Err(self.refuse_overloaded(attempt).await);
        };
        let (operator, rehashed) = match (operator, compared) {
            (Some(operator), Comparison::Match) => (operator, None),
            (Some(operator), Comparison::MatchNeedsRehash(hash)) => (operator, Some(hash)),
            (known, _) => {
                self.metrics.count_sign_in("refused");
                if let Some(operator) = known {
                    self.record_refused_sign_in(request, &operator);
                }
                return Err(Refusal::InvalidCredentials.into());
            }
        };
        self.refund_attempt(attempt).await?;
        let opened = self.open_session(request, operator, rehashed).await?;
        self.metrics.count_sign_in("accepted");
        Ok(opened)
    }

    /// Ends the caller's session, on every instance.
    pub async fn sign_out(&self, caller: &Caller, request: Request) -> Result<(), Error> {
        let event = self.event(&caller.origin(request), AuditAction::SignedOut);
        let batch =
            Batch::new(caller.operator.tenant.clone(), event).delete_if_present(RowId::Session(caller.session.id));
        self.require_enforced(self.commit(batch).await?).await
    }

    /// Changes the caller's password. Ends all their sessions, and creates a new one.
    pub async fn change_password(
        self: &Arc<Self>,
        caller: &Caller,
        request: Request,
        current: Password,
        new: Password,
    ) -> Result<NewSession, Error> {
        let operator = &caller.operator;
        let attempt = self.begin_attempt(request, operator.username.as_str()).await?;
        match self.compare(current, Some(operator)).await {
            Ok(Comparison::Mismatch) => {
                self.metrics.count_sign_in("refused");
                self.record_refused_sign_in(request, operator);
                return Err(Refusal::InvalidCredentials.into());
            }
            Ok(Comparison::Match | Comparison::MatchNeedsRehash(_)) => {}
            Err(Overloaded) => return Err(self.refuse_overloaded(attempt).await),
        }
        self.refund_attempt(attempt).await?;
        let hash = self.passwords.hash(new).await?;
        let changed = self.change(|_| async {
            // The password that was compared must still be the stored one.
            let stored = self.store.find_operator(operator.id).await?;
            let stored = stored.filter(|stored| stored.password_hash == operator.password_hash);
            let changed = stored.ok_or(Refusal::Conflict)?.with_password(hash.clone(), self.environment.now());
            let (session, secret) = self.new_session(&changed);
            let event = self.event(&caller.origin(request), AuditAction::PasswordChanged).about_operator(&changed);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            let batch = self.end_sessions(batch, changed.id).await?.insert(Row::Session(session.clone()));
            let token = self.tokens.issue(&session, &secret);
            let caller = Caller { operator: Arc::new(changed), session };
            Ok(Decision::commit(batch, NewSession { caller, token }))
        });
        self.require_enforced(changed.await?).await
    }

    async fn open_session(
        &self,
        request: Request,
        operator: Operator,
        rehashed: Option<PasswordHash>,
    ) -> Result<NewSession, Error> {
        let (session, secret) = self.new_session(&operator);
        let event = self.event(&origin(AuditActor::operator(&operator), request), AuditAction::SignedIn);
        let batch = Batch::new(operator.tenant.clone(), event).insert(Row::Session(session.clone()));
        let batch = match rehashed {
            None => batch.requires(&Row::Operator(operator.clone())),
            Some(hash) => batch.replace(Row::Operator(operator.with_rehashed_password(hash, session.created_at))),
        };
        // Not retried: a conflict means that the operator was removed or changed while the password was compared. Not
        // waited for: a session that is not cached is looked up in the store.
        self.commit(batch).await?.without_waiting();
        let token = self.tokens.issue(&session, &secret);
        Ok(NewSession { caller: Caller { operator: Arc::new(operator), session }, token })
    }

    fn new_session(&self, operator: &Operator) -> (Session, SessionSecret) {
        let now = self.environment.now();
        let secret = SessionSecret::generate(&mut **self.environment.rng());
        let session = Session {
            id: secret.id(),
            tenant: operator.tenant.clone(),
            operator: operator.id,
            password_version: operator.password_version,
            created_at: now,
            expires_at: now.plus(self.settings.session_lifetime),
        };
        (session, secret)
    }

    async fn compare(&self, password: Password, operator: Option<&Operator>) -> Result<Comparison, Overloaded> {
        let stored = operator.map(|operator| operator.password_hash.clone());
        let password = if password.is_too_long() { Password::unchecked(String::new()) } else { password };
        self.passwords.compare(password, stored).await
    }

    /// Refuses an attempt before its password was compared, and so does not count it.
    async fn refuse_overloaded(&self, attempt: Attempt) -> Error {
        self.refund_attempt(attempt).await.err().unwrap_or(Overloaded.into())
    }

    /// Counts an attempt. Refuses it if there were too many.
    async fn begin_attempt(&self, request: Request, username: &str) -> Result<Attempt, Error> {
        let buckets = throttle::buckets(&self.keyring.current().attempts, username, request.source_address);
        let now = self.environment.now();
        let taking = buckets.iter().map(|(bucket, quota)| self.store.take_token(bucket, *quota, now));
        let taken = futures::future::try_join_all(taking).await?;
        let wait = taken.iter().filter_map(|taken| taken.err()).max();
        let counted = buckets.into_iter().zip(&taken).filter(|(_, taken)| taken.is_ok()).map(|(bucket, _)| bucket);
        let attempt = Attempt(counted.collect());
        match wait {
            None => Ok(attempt),
            Some(wait) => {
                self.metrics.count_sign_in("limited");
                self.refund_attempt(attempt).await?;
                Err(Refusal::RateLimited { retry_after_seconds: whole_seconds(wait) }.into())
            }
        }
    }

    /// Returns the tokens of an attempt that is not to be counted.
    async fn refund_attempt(&self, attempt: Attempt) -> Result<(), Error> {
        let returning = attempt.0.iter().map(|(bucket, quota)| self.store.return_token(bucket, *quota));
        futures::future::try_join_all(returning).await?;
        Ok(())
    }

    /// Records after the response, so that it takes the same time whether or not the operator exists.
    fn record_refused_sign_in(self: &Arc<Self>, request: Request, operator: &Operator) {
        let event = self
            .event(&origin(AuditActor::operator(operator), request), AuditAction::SignInRefused)
            .refused(ErrorCode::InvalidCredentials, 1);
        self.record_refusal_after_response(operator.tenant.clone(), event);
    }
}

/// The buckets from which an attempt has taken a token.
struct Attempt(Vec<(String, Quota)>);
