//! Keys: generated, revoked.

use std::time::Duration;

use super::error::Error;
use super::{Caller, MOST_TRIES, Request, Service};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::SystemId;
use crate::domain::keys::{ApiKey, Key};
use crate::domain::refusal::Refusal;
use crate::domain::systems::{CurrentKey, System};
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// Whether every instance is known to act on a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// From the durable commit to the proof.
    pub elapsed: Duration,
    /// Instances that acknowledged it or are provably not answering from memory.
    pub instances: u32,
    /// While it is pending: no instance acts on the old state after this.
    pub pending_until: Option<Timestamp>,
}

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
        let digest = api_key.digest(&self.keys.current().pepper);
        let mut tries = 0;
        loop {
            let system = self.load_system(tenant, id).await?;
            let (system, key) = system.generate_key(digest, api_key.mark(), self.environment.now())?;
            let event = self
                .event(&caller.origin(request), AuditAction::KeyGenerated)
                .about_system(&system)
                .about_key(key.mark);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(system.clone())).insert(Row::Key(key));
            if self.try_commit(batch, &mut tries).await?.is_some() {
                return Ok(GeneratedKey { api_key, system, enforcement: self.enforce().await });
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
            let system = self.load_system(tenant, id).await?;
            let (without, current) = system.revoke_key(self.environment.now())?;
            let Some(key) = self.load_current_key(&current, &mut tries).await? else { continue };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyRevoked)
                .about_system(&without)
                .about_key(current.mark);
            let batch = Batch::new(tenant.clone(), event)
                .replace(Row::System(without.clone()))
                .replace(Row::Key(key.revoked(without.updated_at)));
            if self.try_commit(batch, &mut tries).await?.is_some() {
                return Ok((without, self.enforce().await));
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

    /// Waits until the change that was just committed is enforced everywhere. Every verification reads the store,
    /// and sees every change answered before it, so there is nothing to wait for.
    pub(super) async fn enforce(&self) -> Enforcement {
        Enforcement { elapsed: Duration::ZERO, instances: 1, pending_until: None }
    }
}
