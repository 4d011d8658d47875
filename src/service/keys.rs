//! Keys: generate, revoke.

use super::commit::Decision;
use super::error::Error;
use super::{Caller, Enforcement, Request, Service};
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::SystemId;
use crate::domain::keys::{ApiKey, Key};
use crate::domain::systems::{CurrentKey, System};
use crate::store::StoreError;

/// A new key. Its whole text is available only here: the store keeps its digest and its mark.
pub struct GeneratedKey {
    pub api_key: ApiKey,
    pub system: System,
    pub enforcement: Enforcement,
}

impl Service {
    /// Generates the key of a system that has none. Every instance accepts it once [`Enforcement::is_enforced`].
    pub async fn generate_key(&self, caller: &Caller, request: Request, id: SystemId) -> Result<GeneratedKey, Error> {
        let tenant = &caller.operator.tenant;
        let api_key = ApiKey::generate(&self.settings.key_prefix, &mut **self.environment.rng());
        let secret = self.keyring.current();
        let digest = (api_key.digest(&secret.pepper), secret.fingerprint);
        let mark = api_key.mark();
        let generated = self.change(|_| async move {
            let system = self.load_system(tenant, id).await?;
            let (system, key) = system.generate_key(digest, mark, self.environment.now())?;
            let event =
                self.event(&caller.origin(request), AuditAction::KeyGenerated).about_system(&system).about_key(mark);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(system.clone())).insert(Row::Key(key));
            Ok(Decision::commit(batch, system))
        });
        let (system, enforcement) = self.wait_until_enforced(generated.await?).await;
        Ok(GeneratedKey { api_key, system, enforcement })
    }

    /// Revokes the key of a system. No instance accepts it once [`Enforcement::is_enforced`].
    pub async fn revoke_key(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
    ) -> Result<(System, Enforcement), Error> {
        let tenant = &caller.operator.tenant;
        let revoked = self.change(|reads| async move {
            let system = match self.find_system_to_change(tenant, id, reads).await? {
                Ok(system) => system,
                Err(decision) => return Ok(decision),
            };
            let (without, current) = match system.revoke_key(self.environment.now()) {
                Ok(revoked) => revoked,
                // A system at its first revision never had a key, so this repeats nothing.
                Err(refusal) if system.revision == 1 => return Ok(Decision::Refuse(refusal)),
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let Some(key) = self.load_current_key(&current).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyRevoked)
                .about_system(&without)
                .about_key(current.mark);
            let batch = Batch::new(tenant.clone(), event)
                .replace(Row::System(without.clone()))
                .replace(Row::Key(key.revoked(without.updated_at)));
            Ok(Decision::commit(batch, without))
        });
        Ok(self.wait_until_enforced(revoked.await?).await)
    }

    /// Loads the row of a system's current key. Returns `None` if the key was revoked since the system was read.
    pub(super) async fn load_current_key(&self, current: &CurrentKey) -> Result<Option<Key>, Error> {
        let key = match self.store.find_key_to_change(current.digest).await? {
            Some(key) => key,
            // Unless the read came from a member that lags behind the read of the system.
            None => {
                let key = self.store.find_key(&[current.digest]).await?;
                key.ok_or_else(|| StoreError::Corrupt("a system refers to a missing key".into()))?
            }
        };
        Ok(key.revoked_at.is_none().then_some(key))
    }
}
