//! Operators: add, change and remove them, and create the first one.

use std::sync::Arc;

use rand::RngExt;
use rand::distr::Alphanumeric;

use super::commit::{Decision, Reads};
use super::error::Error;
use super::{Caller, Enforcement, Request, Service, origin};
use crate::domain::audit::{AuditAction, AuditActor, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{Operator, Password, PasswordHash, Username};
use crate::domain::permissions::{Permission, Permissions};
use crate::domain::refusal::Refusal;

/// The username of the operator that the first start creates.
pub const FIRST_USERNAME: &str = "admin";
/// The marker set by the batch that creates the first operator.
const INITIALISED: &str = "initialised";
/// 20 characters in base 62 have 119 random bits.
const GENERATED_PASSWORD_CHARACTERS: usize = 20;

/// An operator who is changed, and on whose behalf.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// By somebody with access to the store, who may do everything.
    CommandLine(&'a Origin, &'a Username),
    /// By a caller, in the tenant that they act in.
    Caller(&'a Caller, Request, OperatorId),
}

impl Target<'_> {
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::CommandLine(origin, _) => (*origin).clone(),
            Self::Caller(caller, request, _) => caller.origin(*request),
        }
    }

    pub(super) fn not_found(&self) -> Refusal {
        match self {
            Self::CommandLine(..) => Refusal::OperatorNotFound,
            Self::Caller(..) => Refusal::OperatorIdNotFound,
        }
    }

    /// Refuses to give codes that the caller does not hold now, or to change operators without the code for it.
    async fn check_may_give(&self, service: &Service, permissions: Permissions) -> Result<(), Error> {
        match self {
            Self::CommandLine(..) => Ok(()),
            Self::Caller(caller, ..) => service.recheck_may_give(caller, permissions).await,
        }
    }
}

/// An operator with a generated password, whose text is available only here.
pub struct NewPassword {
    pub password: Password,
    pub operator: Operator,
    pub enforcement: Enforcement,
}

/// Refuses codes that an operator of a tenant cannot hold.
fn check_kind(permissions: Permissions, is_platform: bool) -> Result<(), Refusal> {
    match permissions.minus(Permissions::all_of(is_platform)).iter().next() {
        Some(code) => Err(Refusal::BadUserInput(format!("Only an operator of the platform can hold {code}."))),
        None => Ok(()),
    }
}

impl Service {
    /// Refuses a caller who does not hold the permission codes now, with the one to change operators and tokens: a
    /// decision can begin long after the request.
    pub(super) async fn recheck_may_give(&self, caller: &Caller, permissions: Permissions) -> Result<(), Error> {
        let caller = self.refresh_caller(caller).await?;
        caller.check(Permission::EditOperators)?;
        Ok(caller.check_may_give(permissions)?)
    }

    pub async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>, Error> {
        Ok(self.store.list_operators(tenant).await?)
    }

    pub fn generate_password(&self) -> Password {
        let mut rng = self.environment.rng();
        let characters = (0..GENERATED_PASSWORD_CHARACTERS).map(|_| char::from(rng.sample(Alphanumeric)));
        Password::unchecked(characters.collect())
    }

    /// The operators who belong to the tenant, ordered by username.
    pub async fn operators_of(&self, tenant: &TenantId) -> Result<Vec<Arc<Operator>>, Error> {
        match self.coherence.read(|cache| cache.identities.operators_of(tenant)) {
            Some(operators) => Ok(operators),
            None => Ok(self.store.list_operators(Some(tenant)).await?.into_iter().map(Arc::new).collect()),
        }
    }

    /// Finds an operator of the tenant.
    pub async fn find_operator(&self, tenant: &TenantId, id: OperatorId) -> Result<Option<Arc<Operator>>, Error> {
        let cached = self.coherence.read(|cache| cache.identities.find_operator(id)).flatten();
        let found = match cached {
            Some(operator) => Some(operator),
            None => self.store.find_operator(id).await?.map(Arc::new),
        };
        Ok(found.filter(|operator| operator.tenant == *tenant))
    }

    /// Returns the operator with this username, of any tenant.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`.
    pub async fn find_operator_named(&self, username: &Username) -> Result<Operator, Error> {
        Ok(self.store.find_operator_by_username(username).await?.ok_or(Refusal::OperatorNotFound)?)
    }

    /// Adds an operator on the command line.
    pub async fn add_operator(
        &self,
        origin: &Origin,
        tenant: TenantId,
        username: Username,
        password: Password,
        permissions: Permissions,
    ) -> Result<Operator, Error> {
        check_kind(permissions, false)?;
        let hash = self.passwords.hash(password).await?;
        let added = self.change(|_| async {
            let operator = self.new_operator(tenant.clone(), username.clone(), hash.clone(), permissions);
            self.check_format_of(&operator)?;
            let mut batch = self.with_tenant(self.addition(&operator, origin)).await?;
            // The first start creates an operator only in a store that never had one.
            if !self.store.has_marker(INITIALISED).await? {
                batch = batch.once(INITIALISED);
            }
            Ok(Decision::commit(batch, operator))
        });
        // An operator or session that is not cached is looked up in the store.
        Ok(added.await?.without_waiting())
    }

    /// Adds an operator to the tenant that the caller acts in, with a generated password that has to be changed.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a code that the caller does not hold, and for an operator of the platform from others;
    /// `BAD_USER_INPUT` for a code that an operator of this kind cannot hold; `NAME_TAKEN`.
    pub async fn add_operator_to_tenant(
        &self,
        caller: &Caller,
        request: Request,
        username: Username,
        permissions: Permissions,
        is_platform: bool,
    ) -> Result<NewPassword, Error> {
        if is_platform {
            caller.check_platform()?;
        }
        check_kind(permissions, is_platform)?;
        caller.check_may_give(permissions)?;
        let (password, hash) = self.generate_hashed_password(&caller.tenant).await?;
        let (hash, username, origin) = (&hash, &username, &caller.origin(request));
        let added = self.change(|_| async move {
            let Some(tenant) = self.find_tenant_to_change(&caller.tenant).await? else {
                return Ok(Decision::Refuse(Refusal::TenantNotFound));
            };
            self.recheck_may_give(caller, permissions).await?;
            let operator = self.new_operator(tenant.id.clone(), username.clone(), hash.clone(), permissions);
            let operator = if is_platform { operator.of_platform() } else { operator }.with_first_password();
            self.check_format_of(&operator)?;
            Ok(Decision::commit(self.addition(&operator, origin).requires_tenant(&tenant), operator))
        });
        let (operator, enforcement) = self.wait_until_enforced(added.await?).await;
        Ok(NewPassword { password, operator, enforcement })
    }

    /// Replaces the permissions of an operator; `None`: by all that one of this kind can hold. The same ones change nothing.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `BAD_USER_INPUT` for a code that an operator of this kind cannot hold. From a caller: `FORBIDDEN` for a
    /// further code that they do not hold; `LAST_ADMINISTRATOR`.
    pub async fn set_permissions(
        &self,
        target: Target<'_>,
        permissions: Option<Permissions>,
    ) -> Result<(Operator, Enforcement), Error> {
        let origin = &target.origin();
        let changed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            let permissions = permissions.unwrap_or(Permissions::all_of(operator.is_platform));
            check_kind(permissions, operator.is_platform)?;
            target.check_may_give(self, permissions.minus(operator.permissions)).await?;
            let Some(changed) = operator.with_permissions(permissions, self.environment.now()) else {
                return Ok(Decision::Repeat(Ok(operator)));
            };
            self.check_format_of(&changed)?;
            let event = self
                .event(origin, AuditAction::PermissionsChanged)
                .about_operator(&changed)
                .with_permissions(permissions);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            self.commit_with_administrator(target, batch, &operator, Some(&changed)).await
        });
        Ok(self.wait_until_enforced(changed.await?).await)
    }

    /// Makes an operator one of the platform, with these permissions; `None`: with all. Only on the command line.
    pub async fn promote_operator(
        &self,
        origin: &Origin,
        username: &Username,
        permissions: Option<Permissions>,
    ) -> Result<(Operator, Enforcement), Error> {
        self.require_second_format()?;
        let target = Target::CommandLine(origin, username);
        let permissions = permissions.unwrap_or(Permissions::all_of(true));
        let promoted = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            let Some(promoted) = operator.promote(permissions, self.environment.now()) else {
                return Ok(Decision::Repeat(Ok(operator)));
            };
            let event = self
                .event(origin, AuditAction::OperatorPromoted)
                .about_operator(&promoted)
                .with_permissions(permissions);
            let batch = Batch::new(promoted.tenant.clone(), event).replace(Row::Operator(promoted.clone()));
            Ok(Decision::commit(batch, promoted))
        });
        Ok(self.wait_until_enforced(promoted.await?).await)
    }

    /// Replaces the password of an operator, which ends all their sessions.
    pub async fn set_password(
        self: &Arc<Self>,
        target: Target<'_>,
        password: Password,
    ) -> Result<(Operator, Enforcement), Error> {
        let hash = self.passwords.hash(password).await?;
        self.replace_password(target, hash, false).await
    }

    /// Replaces the password of an operator by a generated one that has to be changed, and ends all their sessions.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `FORBIDDEN` if the operator holds a code that the caller does not hold, who could act as the operator
    /// otherwise.
    pub async fn reset_password(self: &Arc<Self>, target: Target<'_>) -> Result<NewPassword, Error> {
        // Before the work of hashing.
        let Some(operator) = self.find_operator_to_change(target, Reads::Majority).await? else {
            return Err(target.not_found().into());
        };
        let (password, hash) = self.generate_hashed_password(&operator.tenant).await?;
        let (operator, enforcement) = self.replace_password(target, hash, true).await?;
        Ok(NewPassword { password, operator, enforcement })
    }

    async fn replace_password(
        self: &Arc<Self>,
        target: Target<'_>,
        hash: PasswordHash,
        is_first: bool,
    ) -> Result<(Operator, Enforcement), Error> {
        let (origin, hash) = (&target.origin(), &hash);
        let changed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            target.check_may_give(self, operator.permissions).await?;
            let changed = operator.with_password(hash.clone(), self.environment.now());
            let changed = if is_first { changed.with_first_password() } else { changed };
            let event = self.event(origin, AuditAction::PasswordChanged).about_operator(&changed);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            Ok(Decision::commit(batch, changed))
        });
        let (changed, enforcement) = self.wait_until_enforced(changed.await?).await;
        self.purge_ended_sessions(changed.id, changed.password_version);
        Ok((changed, enforcement))
    }

    /// Suspends an operator, who cannot sign in then, and ends all their sessions. One who is suspended already stays as
    /// they are.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; from a caller: `LAST_ADMINISTRATOR`.
    pub async fn suspend_operator(self: &Arc<Self>, target: Target<'_>) -> Result<(Operator, Enforcement), Error> {
        self.require_second_format()?;
        let origin = &target.origin();
        let suspended = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            let Some(suspended) = operator.suspend(self.environment.now()) else {
                return Ok(Decision::Repeat(Ok(operator)));
            };
            let event = self.event(origin, AuditAction::OperatorSuspended).about_operator(&suspended);
            let batch = Batch::new(suspended.tenant.clone(), event).replace(Row::Operator(suspended.clone()));
            self.commit_with_administrator(target, batch, &operator, Some(&suspended)).await
        });
        let (suspended, enforcement) = self.wait_until_enforced(suspended.await?).await;
        self.purge_ended_sessions(suspended.id, suspended.password_version);
        Ok((suspended, enforcement))
    }

    /// Ends the suspension of an operator, who may sign in again.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `NOT_SUSPENDED`.
    pub async fn resume_operator(&self, target: Target<'_>) -> Result<(Operator, Enforcement), Error> {
        let origin = &target.origin();
        let resumed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Refuse(target.not_found()));
            };
            target.check_may_give(self, Permissions::NONE).await?;
            let resumed = match operator.resume(self.environment.now()) {
                Ok(resumed) => resumed,
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let event = self.event(origin, AuditAction::OperatorResumed).about_operator(&resumed);
            let batch = Batch::new(resumed.tenant.clone(), event).replace(Row::Operator(resumed.clone()));
            Ok(Decision::commit(batch, resumed))
        });
        Ok(self.wait_until_enforced(resumed.await?).await)
    }

    /// Removes an operator, which ends all their sessions.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`, also for a repeat; from a caller: `LAST_ADMINISTRATOR`.
    pub async fn remove_operator(self: &Arc<Self>, target: Target<'_>) -> Result<(Operator, Enforcement), Error> {
        let origin = &target.origin();
        let removed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(target, reads).await? else {
                return Ok(Decision::Repeat(Err(target.not_found())));
            };
            let event = self.event(origin, AuditAction::OperatorRemoved).about_operator(&operator);
            let batch = Batch::new(operator.tenant.clone(), event).delete(&Row::Operator(operator.clone()));
            self.commit_with_administrator(target, batch, &operator, None).await
        });
        let (removed, enforcement) = self.wait_until_enforced(removed.await?).await;
        self.purge_ended_sessions(removed.id, u64::MAX);
        Ok((removed, enforcement))
    }

    /// Commits the batch, which changes or removes the operator. Refuses to take away the tenant's last
    /// administrator, unless the command line does.
    async fn commit_with_administrator(
        &self,
        target: Target<'_>,
        batch: Batch,
        before: &Operator,
        after: Option<&Operator>,
    ) -> Result<Decision<Operator>, Error> {
        let value = after.unwrap_or(before).clone();
        let now = self.environment.now();
        let is_lost = before.is_administrator(now) && !after.is_some_and(|after| after.is_administrator(now));
        if !is_lost || matches!(target, Target::CommandLine(..)) {
            return Ok(Decision::commit(batch, value));
        }
        let operators = self.store.list_operators(Some(&before.tenant)).await?;
        let other = operators.into_iter().find(|other| other.id != before.id && other.is_administrator(now));
        Ok(match other {
            // It must still be there when the batch is committed.
            Some(other) => Decision::commit(batch.requires(&Row::Operator(other)), value),
            None => Decision::Refuse(Refusal::LastAdministrator),
        })
    }

    /// Returns true if the store ever had an operator.
    pub async fn is_initialised(&self) -> Result<bool, Error> {
        Ok(self.store.has_marker(INITIALISED).await?)
    }

    /// Creates the first operator, with all permissions, unless the store ever had one. Returns true if it was created
    /// here: of several instances that start at the same time, one creates it. A generated password has to be changed.
    pub async fn create_first_operator(&self, password: Password, is_generated: bool) -> Result<bool, Error> {
        let hash = self.passwords.hash(password).await?;
        let tenant: TenantId = TenantId::DEFAULT.parse().expect("the default tenant's name is well-formed");
        let username: Username = FIRST_USERNAME.parse().expect("the first operator's name is well-formed");
        let origin = origin(AuditActor::keymark(), self.request(None));
        let created = self.change(|_| async {
            if self.is_initialised().await? {
                return Ok(Decision::Unchanged(false));
            }
            let operator = self.new_operator(tenant.clone(), username.clone(), hash.clone(), Permissions::all_of(true));
            let operator = operator.of_platform();
            let operator = if is_generated { operator.with_first_password() } else { operator };
            let batch = self.with_tenant(self.addition(&operator, &origin)).await?;
            Ok(Decision::commit(batch.once(INITIALISED), true))
        });
        // As in `add_operator`. Waiting would also be in vain: this instance does not follow the feed yet.
        Ok(created.await?.without_waiting())
    }

    fn new_operator(
        &self,
        tenant: TenantId,
        username: Username,
        hash: PasswordHash,
        permissions: Permissions,
    ) -> Operator {
        let now = self.environment.now();
        let id = OperatorId::new(now, &mut **self.environment.rng());
        Operator::new(id, tenant, username, hash, permissions, now)
    }

    fn addition(&self, operator: &Operator, origin: &Origin) -> Batch {
        let event = self
            .event(origin, AuditAction::OperatorAdded)
            .about_operator(operator)
            .with_permissions(operator.permissions);
        Batch::new(operator.tenant.clone(), event).insert(Row::Operator(operator.clone()))
    }

    /// Removes the sessions of earlier versions of an operator's password after the response. They have ended with the
    /// change of the operator, however many they are; what is left after a failure is purged when it expires.
    pub(super) fn purge_ended_sessions(self: &Arc<Self>, operator: OperatorId, password_version: u64) {
        let service = Arc::clone(self);
        self.spawn_after_response(async move {
            match service.store.purge_sessions(operator, password_version).await {
                Ok(sessions) => tracing::debug!(sessions, "ended sessions purged"),
                Err(error) => tracing::warn!(%error, "ended sessions not purged; they are purged when they expire"),
            }
        });
    }

    /// Finds the operator, whom the target's caller may change.
    pub(super) async fn find_operator_to_change(
        &self,
        target: Target<'_>,
        reads: Reads,
    ) -> Result<Option<Operator>, Error> {
        match (target, reads) {
            (Target::CommandLine(_, username), Reads::Majority) => {
                Ok(self.store.find_operator_by_username(username).await?)
            }
            (Target::CommandLine(_, username), Reads::Linearizable) => {
                Ok(self.store.recheck_operator(username).await?)
            }
            (Target::Caller(caller, _, id), _) => {
                let found = self.store.find_operator_to_change(id).await?;
                let found = found.filter(|operator| operator.tenant == caller.tenant);
                if found.as_ref().is_some_and(|operator| operator.is_platform) {
                    caller.check_platform()?;
                }
                Ok(found)
            }
        }
    }

    /// Refuses a row that an instance of release 0.1 would misread, while one is running.
    fn check_format_of(&self, operator: &Operator) -> Result<(), Refusal> {
        if operator.needs_second_format() { self.require_second_format() } else { Ok(()) }
    }

    /// A generated password, and its hash.
    ///
    /// # Errors
    ///
    /// `RATE_LIMITED` if too many are generated for the tenant at the same time.
    async fn generate_hashed_password(&self, tenant: &TenantId) -> Result<(Password, PasswordHash), Error> {
        let _place = self.concurrency.begin_password(tenant)?;
        let password = self.generate_password();
        let hash = self.passwords.hash(Password::unchecked(password.expose().to_owned())).await?;
        Ok((password, hash))
    }
}
