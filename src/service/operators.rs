//! Operators: add, change and remove them, and create the first one.

use std::sync::Arc;

use rand::RngExt;
use rand::distr::Alphanumeric;

use super::commit::{Decision, Reads};
use super::error::Error;
use super::{Service, origin};
use crate::domain::audit::{AuditAction, AuditActor, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::operators::{Operator, Password, PasswordHash, Username};
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;

/// The username of the operator that the first start creates.
pub const FIRST_USERNAME: &str = "admin";
/// The marker set by the batch that creates the first operator.
const INITIALISED: &str = "initialised";
/// 20 characters in base 62 have 119 random bits.
const GENERATED_PASSWORD_CHARACTERS: usize = 20;

impl Service {
    pub async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>, Error> {
        Ok(self.store.list_operators(tenant).await?)
    }

    pub fn generate_password(&self) -> Password {
        let mut rng = self.environment.rng();
        let characters = (0..GENERATED_PASSWORD_CHARACTERS).map(|_| char::from(rng.sample(Alphanumeric)));
        Password::unchecked(characters.collect())
    }

    pub async fn add_operator(
        &self,
        origin: &Origin,
        tenant: TenantId,
        username: Username,
        password: Password,
        permissions: Permissions,
    ) -> Result<Operator, Error> {
        let hash = self.passwords.hash(password).await?;
        let added = self.change(|_| async {
            let operator = self.new_operator(tenant.clone(), username.clone(), hash.clone(), permissions);
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

    /// Replaces the permissions of an operator. The same ones change nothing.
    pub async fn set_permissions(
        &self,
        origin: &Origin,
        username: &Username,
        permissions: Permissions,
    ) -> Result<Operator, Error> {
        let changed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(username, reads).await? else {
                return Ok(Decision::Refuse(Refusal::OperatorNotFound));
            };
            let Some(changed) = operator.with_permissions(permissions, self.environment.now()) else {
                return Ok(Decision::Repeat(Ok(operator)));
            };
            let event = self
                .event(origin, AuditAction::PermissionsChanged)
                .about_operator(&changed)
                .with_permissions(permissions);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            Ok(Decision::commit(batch, changed))
        });
        self.require_enforced(changed.await?).await
    }

    /// Replaces the password of an operator, which ends all their sessions.
    pub async fn set_password(
        self: &Arc<Self>,
        origin: &Origin,
        username: &Username,
        password: Password,
    ) -> Result<Operator, Error> {
        let hash = self.passwords.hash(password).await?;
        let changed = self.change(|_| async {
            let operator = self.load_operator(username).await?;
            let changed = operator.with_password(hash.clone(), self.environment.now());
            let event = self.event(origin, AuditAction::PasswordChanged).about_operator(&changed);
            let batch = Batch::new(changed.tenant.clone(), event).replace(Row::Operator(changed.clone()));
            Ok(Decision::commit(batch, changed))
        });
        let changed = self.require_enforced(changed.await?).await?;
        self.purge_ended_sessions(changed.id, changed.password_version);
        Ok(changed)
    }

    /// Removes an operator, which ends all their sessions.
    pub async fn remove_operator(self: &Arc<Self>, origin: &Origin, username: &Username) -> Result<Operator, Error> {
        let removed = self.change(|reads| async move {
            let Some(operator) = self.find_operator_to_change(username, reads).await? else {
                return Ok(Decision::Repeat(Err(Refusal::OperatorNotFound)));
            };
            let event = self.event(origin, AuditAction::OperatorRemoved).about_operator(&operator);
            let batch = Batch::new(operator.tenant.clone(), event).delete(&Row::Operator(operator.clone()));
            Ok(Decision::commit(batch, operator))
        });
        let removed = self.require_enforced(removed.await?).await?;
        self.purge_ended_sessions(removed.id, u64::MAX);
        Ok(removed)
    }

    /// Suspends an operator again in a restored store. Returns `false` if the store does not have them, or they are
    /// suspended.
    pub(super) async fn replay_operator_suspension(
        &self,
        origin: &Origin,
        tenant: &TenantId,
        id: OperatorId,
    ) -> Result<bool, Error> {
        let suspended = self.change(|_| async move {
            let found = self.store.find_operator(id).await?.filter(|operator| operator.tenant == *tenant);
            let suspended = found.and_then(|operator| operator.suspend(self.environment.now()));
            let Some(suspended) = suspended else { return Ok(Decision::Unchanged(false)) };
            let event = self.event(origin, AuditAction::OperatorSuspended).about_operator(&suspended);
            Ok(Decision::commit(Batch::new(tenant.clone(), event).replace(Row::Operator(suspended)), true))
        });
        self.require_enforced(suspended.await?).await
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

    async fn find_operator_to_change(&self, username: &Username, reads: Reads) -> Result<Option<Operator>, Error> {
        Ok(match reads {
            Reads::Majority => self.store.find_operator_by_username(username).await?,
            Reads::Linearizable => self.store.recheck_operator(username).await?,
        })
    }

    async fn load_operator(&self, username: &Username) -> Result<Operator, Error> {
        self.store.find_operator_by_username(username).await?.ok_or_else(|| Refusal::OperatorNotFound.into())
    }
}
