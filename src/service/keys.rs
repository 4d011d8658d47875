//! Keys: generate, rotate, revoke, and change or reach their end.

use std::time::Duration;

use futures::future;

use super::commit::{Committed, Decision};
use super::error::Error;
use super::{Caller, Enforcement, Request, Service, origin};
use crate::domain::actors::AuditActor;
use crate::domain::audit::AuditAction;
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::{ApiKey, Key, KeyEnd, KeyRole};
use crate::domain::refusal::Refusal;
use crate::domain::systems::{CurrentKey, MAX_OVERLAP, MIN_KEY_LIFETIME, NewKey, System};
use crate::domain::texts::Reason;
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// Most keys whose end or warning is written in one round; the rest follow in the next.
const MAX_DUE_KEYS: usize = 500;

/// A new key. Its whole text is available only here: the store keeps its digest and its mark.
pub struct GeneratedKey {
    pub api_key: ApiKey,
    pub system: System,
    pub enforcement: Enforcement,
}

impl Service {
    /// Generates the key of a system that has none. Every instance accepts it once [`Enforcement::is_enforced`].
    pub async fn generate_key(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        expires_at: Option<Timestamp>,
    ) -> Result<GeneratedKey, Error> {
        let tenant = &caller.tenant;
        let expires_at = self.end_of_new_key(tenant, expires_at).await?;
        let generated = self.change(|_| async move {
            let system = self.load_system(tenant, id).await?;
            let (api_key, new) = self.new_key(caller, &system, expires_at);
            let mark = new.mark;
            let (system, key) = system.generate_key(new, self.environment.now())?;
            let event = self
                .event(&caller.origin(request), AuditAction::KeyGenerated)
                .about_system(&system)
                .about_key(mark)
                .about_expiry(expires_at);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(system.clone())).insert(Row::Key(key));
            Ok(Decision::commit(batch, (api_key, system)))
        });
        self.wait_for_new_key(generated.await?).await
    }

    /// Generates a new current key of a system, and lets the one before be valid for `overlap`. Every instance accepts
    /// the new key, and none the one before after an overlap of zero, once [`Enforcement::is_enforced`]. An overlap of zero
    /// is possible during a rotation too, so that it replaces any key whose response was lost.
    pub async fn rotate_key(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        overlap: Duration,
        expires_at: Option<Timestamp>,
    ) -> Result<GeneratedKey, Error> {
        if overlap > MAX_OVERLAP {
            let bound = MAX_OVERLAP.as_secs();
            return Err(Refusal::BadUserInput(format!("overlapSeconds must be from 0 to {bound} (30 days).")).into());
        }
        self.require_second_format()?;
        let tenant = &caller.tenant;
        let expires_at = self.end_of_new_key(tenant, expires_at).await?;
        let rotated = self.change_system(tenant, id, |before| async move {
            let (api_key, new) = self.new_key(caller, &before, expires_at);
            let mark = new.mark;
            let now = self.environment.now();
            let (system, key) = match before.rotate_key(new, overlap, now) {
                Ok(rotated) => rotated,
                Err(refusal) => return Ok(Decision::Refuse(refusal)),
            };
            let Some(keys) = self.load_live_keys(&before).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyRotated)
                .about_system(&system)
                .about_key(mark)
                .about_expiry(expires_at)
                .about_previous_key(before.key.as_ref().map(|key| key.mark));
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(system.clone())).insert(Row::Key(key));
            let (live, ended): (Vec<_>, Vec<_>) = keys
                .into_iter()
                .partition(|key| system.retiring.as_ref().is_some_and(|retiring| retiring.digest == key.digest));
            let end = system.last_key.as_ref().map_or(KeyEnd::RotatedOut, |last| last.end);
            let batch = end_keys(update_keys(batch, &live, &system), &ended, end, now);
            Ok(Decision::commit(batch, (api_key, system)))
        });
        self.wait_for_new_key(rotated.await?).await
    }

    /// Ends the overlap of a rotation. No instance accepts the retiring key once [`Enforcement::is_enforced`].
    pub async fn end_rotation(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        reason: Option<Reason>,
    ) -> Result<(System, Enforcement), Error> {
        let (tenant, reason) = (&caller.tenant, &reason);
        let ended = self.change_system(tenant, id, |system| async move {
            let now = self.environment.now();
            let (without, retiring) = match system.end_rotation(reason.clone(), now) {
                Ok(ended) => ended,
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let Some(key) = self.load_live_key(&retiring).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::RotationEnded)
                .about_system(&without)
                .about_key(retiring.mark)
                .because(reason.clone());
            let batch = Batch::new(tenant.clone(), event)
                .replace(Row::System(without.clone()))
                .replace(Row::Key(key.ended(KeyEnd::Revoked, now)));
            Ok(Decision::commit(batch, without))
        });
        Ok(self.wait_until_enforced(ended.await?).await)
    }

    /// Changes when the current or the retiring key of a system ends. Every instance keeps to the new end once
    /// [`Enforcement::is_enforced`].
    pub async fn set_key_expiry(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        role: KeyRole,
        expires_at: Option<Timestamp>,
    ) -> Result<(System, Enforcement), Error> {
        self.require_second_format()?;
        let tenant = &caller.tenant;
        let longest = self.longest_key_lifetime(tenant).await?;
        let changed = self.change_system(tenant, id, |system| async move {
            let now = self.environment.now();
            let changed = match system.set_key_expiry(role, expires_at, now) {
                Ok(Some(changed)) => changed,
                Ok(None) => return Ok(Decision::Repeat(Ok(system))),
                Err(refusal) => return Ok(Decision::Refuse(refusal)),
            };
            let Some(current) = changed.live_key(role).cloned() else { return Ok(Decision::Retry) };
            match role {
                KeyRole::Current => {
                    let generated_at = current.origin_in(&system).0;
                    check_expiry(expires_at, now, longest.map(|longest| (generated_at.plus(longest), longest)))?;
                }
                KeyRole::Retiring => check_overlap_end(expires_at, now)?,
            }
            let Some(key) = self.load_live_key(&current).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyExpiryChanged)
                .about_system(&changed)
                .about_key(current.mark)
                .about_key_end(role, expires_at);
            let batch = Batch::new(tenant.clone(), event)
                .replace(Row::System(changed.clone()))
                .replace(Row::Key(key.in_system(&changed)));
            Ok(Decision::commit(batch, changed))
        });
        Ok(self.wait_until_enforced(changed.await?).await)
    }

    /// Revokes the keys of a system, the current and the retiring one. No instance accepts them once
    /// [`Enforcement::is_enforced`].
    pub async fn revoke_key(
        &self,
        caller: &Caller,
        request: Request,
        id: SystemId,
        reason: Option<Reason>,
    ) -> Result<(System, Enforcement), Error> {
        let (tenant, reason) = (&caller.tenant, &reason);
        let revoked = self.change_system(tenant, id, |system| async move {
            let now = self.environment.now();
            let without = match system.revoke_keys(reason.clone(), now) {
                Ok(without) => without,
                // A system at its first revision never had a key, so this repeats nothing.
                Err(refusal) if system.revision == 1 => return Ok(Decision::Refuse(refusal)),
                Err(refusal) => return Ok(Decision::Repeat(Err(refusal))),
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self
                .event(&caller.origin(request), AuditAction::KeyRevoked)
                .about_system(&without)
                .about_keys_of(&system)
                .because(reason.clone());
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(without.clone()));
            Ok(Decision::commit(end_keys(batch, &keys, KeyEnd::Revoked, without.updated_at), without))
        });
        Ok(self.wait_until_enforced(revoked.await?).await)
    }

    /// Commits the end of every key whose time has come, and the warnings before it, in the name of Keymark. Other
    /// instances do the same: the first one writes, and the others find it done. Stops when the process begins to drain.
    /// Returns the number of entries that this instance wrote.
    ///
    /// # Errors
    ///
    /// The store's errors. What is left is due the next time.
    pub async fn write_due_keys(&self) -> Result<u64, Error> {
        let due = self.store.list_due_keys(self.environment.now(), MAX_DUE_KEYS).await?;
        let (mut written, mut waits) = (0, Vec::new());
        for key in due {
            if self.draining.has_begun() {
                break;
            }
            let committed = match self.change(|_| self.decide_due_key(&key)).await {
                // It is refused already, and holds up no other one.
                Err(Error::Internal(error)) => {
                    let (tenant, system) = (&key.tenant, key.system);
                    tracing::error!(%tenant, %system, %error, "end of a key not written");
                    continue;
                }
                committed => committed?,
            };
            if committed.has_changed() {
                written += 1;
            }
            waits.push(self.wait_until_enforced(committed));
        }
        // Nobody waits for the answer, and instances refuse the keys by their own clocks already. The waits keep the barriers
        // open until the changes are enforced, so that their metrics and warnings in the log are as for others. A shutdown
        // does not wait for them.
        tokio::select! {
            _ = future::join_all(waits) => {}
            () = self.draining.begun() => {}
        }
        Ok(written)
    }

    async fn decide_due_key(&self, due: &Key) -> Result<Decision<()>, Error> {
        let now = self.environment.now();
        let Some(key) = self.store.find_key_to_change(due.digest).await? else { return Ok(Decision::Unchanged(())) };
        if key.due_at().is_none_or(|due_at| due_at > now) {
            return Ok(Decision::Unchanged(()));
        }
        let system = self.store.find_system(&key.tenant, key.system).await?;
        let Some(system) = system.filter(|system| system.live_keys().any(|live| live.digest == key.digest)) else {
            return Ok(Decision::Unchanged(()));
        };
        let origin = origin(AuditActor::keymark(), self.request(None));
        let warning = key.due_warning(now);
        let (action, system, key, requires) = match (warning, key.expires_at) {
            (Some(days), _) => (AuditAction::KeyExpiryWarned, system, key.warned(days), true),
            (None, Some(end)) if end <= now => {
                let ended = system.expire_key(&key, now);
                let end = ended.last_key.as_ref().map_or(KeyEnd::Expired, |last| last.end);
                (AuditAction::KeyExpired, ended, key.ended(end, key.expires_at.unwrap_or(now)), false)
            }
            _ => return Ok(Decision::Unchanged(())),
        };
        let event = self
            .event(&origin, action)
            .about_system(&system)
            .about_key(key.mark)
            .about_key_end(key.role, key.expires_at);
        let batch = Batch::new(key.tenant.clone(), event).replace(Row::Key(key));
        let row = Row::System(system);
        Ok(Decision::commit(if requires { batch.requires(&row) } else { batch.replace(row) }, ()))
    }

    /// Generates a key whose mark differs from those of the system's recent keys.
    fn new_key(&self, caller: &Caller, system: &System, expires_at: Option<Timestamp>) -> (ApiKey, NewKey) {
        let api_key = loop {
            let api_key = ApiKey::generate(&self.settings.key_prefix, &mut **self.environment.rng());
            if !system.has_recent_mark(api_key.mark()) {
                break api_key;
            }
        };
        let secret = self.keyring.current();
        let new = NewKey {
            digest: api_key.digest(&secret.pepper),
            secret: secret.fingerprint,
            mark: api_key.mark(),
            generated_by: caller.actor(),
            expires_at,
        };
        (api_key, new)
    }

    async fn wait_for_new_key(&self, committed: Committed<(ApiKey, System)>) -> Result<GeneratedKey, Error> {
        let ((api_key, system), enforcement) = self.wait_until_enforced(committed).await;
        Ok(GeneratedKey { api_key, system, enforcement })
    }

    /// Checks the requested end of a new key. Without one, the longest life that the tenant's policy allows.
    async fn end_of_new_key(
        &self,
        tenant: &TenantId,
        expires_at: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, Error> {
        let now = self.environment.now();
        let latest = self.longest_key_lifetime(tenant).await?.map(|longest| (now.plus(longest), longest));
        let expires_at = expires_at.or(latest.map(|(latest, _)| latest));
        check_expiry(expires_at, now, latest)?;
        if expires_at.is_some() {
            self.require_second_format()?;
        }
        Ok(expires_at)
    }

    /// Loads the rows of a system's current and retiring key. Returns `None` if one of them ended since the system was
    /// read.
    pub(super) async fn load_live_keys(&self, system: &System) -> Result<Option<Vec<Key>>, Error> {
        let mut keys = Vec::with_capacity(2);
        for current in system.live_keys() {
            let Some(key) = self.load_live_key(current).await? else { return Ok(None) };
            keys.push(key);
        }
        Ok(Some(keys))
    }

    /// Loads the row of a key. Returns `None` if the key ended since its system was read.
    async fn load_live_key(&self, current: &CurrentKey) -> Result<Option<Key>, Error> {
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

/// Adds the end of these keys to the batch.
pub(super) fn end_keys(batch: Batch, keys: &[Key], end: KeyEnd, at: Timestamp) -> Batch {
    keys.iter().fold(batch, |batch, key| batch.replace(Row::Key(key.ended(end, at))))
}

/// Adds these keys to the batch, as they are in the system after its change.
pub(super) fn update_keys(batch: Batch, keys: &[Key], system: &System) -> Batch {
    keys.iter().fold(batch, |batch, key| batch.replace(Row::Key(key.in_system(system))))
}

/// Refuses the expiry of a current key that is too near, or later than the policy allows: `latest`, from its longest life.
pub(super) fn check_expiry(
    expires_at: Option<Timestamp>,
    now: Timestamp,
    latest: Option<(Timestamp, Duration)>,
) -> Result<(), Refusal> {
    if expires_at.is_some_and(|end| end < now.plus(MIN_KEY_LIFETIME)) {
        let earliest = now.plus(MIN_KEY_LIFETIME);
        return Err(Refusal::BadUserInput(format!("expiresAt must be at least a minute ahead: {earliest} or later.")));
    }
    match latest {
        Some((latest, longest)) if expires_at.is_none_or(|end| end > latest) => {
            let days = longest.as_secs() / 86_400;
            Err(Refusal::BadUserInput(format!(
                "Your tenant's policy allows keys of at most {days} days: expiresAt must be {latest} or earlier."
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses an end of an overlap that is missing, too near or too late.
fn check_overlap_end(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    let (earliest, latest) = (now.plus(MIN_KEY_LIFETIME), now.plus(MAX_OVERLAP));
    if expires_at.is_some_and(|end| (earliest..=latest).contains(&end)) {
        return Ok(());
    }
    Err(Refusal::BadUserInput(format!(
        "A retiring key ends between a minute and 30 days ahead: expiresAt must be from {earliest} to {latest}."
    )))
}
