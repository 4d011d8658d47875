//! Keys: generated, revoked.

use super::error::Error;
use super::{Caller, MOST_TRIES, Request, Service};
pub use crate::coherence::Enforcement;
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::SystemId;
use crate::domain::keys::{ApiKey, Key};
use crate::domain::refusal::Refusal;
use crate::domain::systems::{CurrentKey, System};
use crate::store::StoreError;

/// A key that was just generated: the only time it is whole.
pub struct GeneratedKey {
    pub api_key: ApiKey,
    pub system: System,
    pub enforcement: Enforcement,
}

impl Service {
    /// Gives a system without one its key.
    pub async fn generate_key(&self, caller: &Caller, request: Request, id: SystemId) -> Result<GeneratedKey, Error> {
        let tenant = &caller.operator.tenant;
        let api_key = ApiKey::generate(&self.settings.key_prefix, &mut **self.environment.rng());
        let digest = api_key.digest(&self.keyring.current().pepper);
        let mut tries = 0;
        loop {
            let system = self.load_system(tenant, id).await?;
            let (system, key) = system.generate_key(digest, api_key.mark(), self.environment.now())?;
            let event = self
                .event(&caller.origin(request), AuditAction::KeyGenerated)
                .about_system(&system)
                .about_key(key.mark);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(system.clone())).insert(Row::Key(key));
            if let Some(barrier) = self.try_commit(batch, &mut tries).await? {
                return Ok(GeneratedKey { api_key, system, enforcement: self.enforce(barrier).await });
            }
        }
    }

    /// Takes a system's key away: once this has answered, no verification accepts it.
    pub async fn revoke_key(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
    ) -> Result<(System, Enforcement), Error> {
        let tenant = &caller.operator.tenant;
        let mut tries = 0;
        loop {
            let system = self.load_or_repeat(tenant, id).await?;
            let (without, current) = match system.revoke_key(self.environment.now()) {
                Ok(revoked) => revoked,
                Err(refusal) => {
                    // A system that was never changed never had a key.
                    if system.revision > 1 {
                        self.enforce_repeat().await?;
                    }
                    return Err(refusal.into());
                }
            };
            let Some(key) = self.load_current_key(&current, &mut tries).await? else { continue };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyRevoked)
                .about_system(&without)
                .about_key(current.mark);
            let batch = Batch::new(tenant.clone(), event)
                .replace(Row::System(without.clone()))
                .replace(Row::Key(key.revoked(without.updated_at)));
            if let Some(barrier) = self.try_commit(batch, &mut tries).await? {
                return Ok((without, self.enforce(barrier).await));
            }
        }
    }

    /// What the store has for a system's current key; `None` when it was revoked since the system was read, which is
    /// one of the tries.
    pub(super) async fn load_current_key(&self, current: &CurrentKey, tries: &mut u32) -> Result<Option<Key>, Error> {
        let key = self.store.find_key(&[current.digest]).await?;
        let key = key.ok_or_else(|| StoreError::Corrupt("a system names a key that is missing".into()))?;
        if key.revoked_at.is_none() {
            return Ok(Some(key));
        }
        *tries += 1;
        if *tries < MOST_TRIES { Ok(None) } else { Err(Refusal::Conflict.into()) }
    }
}
