//! Digesting keys anew under the current root secret, so that a previous one can be dropped.
//!
//! Only a presented key can be digested anew, since the store does not hold it. Keys that were verified under a previous
//! secret are collected, and rewritten in the background: many of a tenant in one change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use super::commit::Decision;
use super::error::Error;
use super::{Service, origin};
use crate::domain::audit::{AuditAction, AuditActor};
use crate::domain::changes::{Batch, Row, StoredRow};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest, PresentedKey};
use crate::domain::secrets::Fingerprint;
use crate::domain::systems::System;
use crate::store::{Store, StoreError, skip_unreadable};

/// Maximum number of collected keys; further ones are collected when they are verified again.
const MAX_COLLECTED_KEYS: usize = 10_000;
/// Maximum number of keys in one change, so that it takes the store no longer than others.
const MAX_KEYS_PER_CHANGE: usize = 100;

/// A strong read of MongoDB takes milliseconds, on a set of one member up to 100.
const MAX_CONCURRENT_READS: usize = 32;

/// Keys to digest anew: all their digests, by the one under the current secret.
#[derive(Default)]
pub(super) struct OldDigests(Mutex<HashMap<KeyDigest, Vec<KeyDigest>>>);

impl OldDigests {
    fn add(&self, digests: Vec<KeyDigest>) {
        let Some(current) = digests.first() else { return };
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if collected.len() < MAX_COLLECTED_KEYS {
            collected.insert(*current, digests);
        }
    }

    fn take(&self) -> HashMap<KeyDigest, Vec<KeyDigest>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Service {
    /// Called for each valid key. If its row does not name the current secret, collects it for
    /// [`redigest_keys`](Self::redigest_keys). Does nothing without previous secrets, or while the cache is bypassed.
    pub fn collect_old_digest(&self, key: PresentedKey<'_>) {
        if !self.keyring.has_previous() {
            return;
        }
        let current = self.keyring.current();
        let digest = key.digest(&current.pepper);
        if self.coherence.read(|cache| cache.keys.names_secret(&digest, current.fingerprint)) == Some(false) {
            self.old_digests.add(self.keyring.iter().map(|keys| key.digest(&keys.pepper)).collect());
        }
    }

    /// Digests the collected keys anew. Returns how many.
    ///
    /// # Errors
    ///
    /// The store's errors. Keys that were not rewritten are collected when they are verified again.
    pub async fn redigest_keys(&self) -> Result<u64, Error> {
        let secret = self.keyring.current().fingerprint;
        let mut by_tenant: HashMap<TenantId, Vec<(KeyDigest, KeyDigest)>> = HashMap::new();
        let collected = self.old_digests.take().into_iter();
        let reads = collected.map(|(current, digests)| async move {
            let key = self.store.find_key(&digests).await?;
            Ok::<_, StoreError>(key.filter(|key| key.secret != Some(secret)).map(|key| (key, current)))
        });
        let mut found = stream::iter(reads).buffer_unordered(MAX_CONCURRENT_READS);
        while let Some(found) = found.try_next().await? {
            if let Some((key, current)) = found {
                by_tenant.entry(key.tenant).or_default().push((key.digest, current));
            }
        }
        let mut redigested = 0;
        for (tenant, keys) in by_tenant {
            for keys in keys.chunks(MAX_KEYS_PER_CHANGE) {
                redigested += self.redigest(&tenant, keys).await?;
            }
        }
        Ok(redigested)
    }

    /// Describes in one line how many keys need each root secret. Reads all keys.
    pub async fn describe_secrets(&self) -> Result<String, Error> {
        let mut counts = count_keys_by_secret(self.store.as_ref()).await?;
        let mut parts = Vec::new();
        for (i, keys) in self.keyring.iter().enumerate() {
            let count = counts.remove(&Some(keys.fingerprint)).unwrap_or(0);
            let which = if i == 0 { "the current secret" } else { "the previous secret" };
            parts.push(format!("{count} keys need {which} {}", keys.fingerprint));
        }
        if let Some(unknown) = counts.remove(&None) {
            parts.push(format!("{unknown} keys of release 0.1 need one of these"));
        }
        parts.extend(counts.iter().filter_map(|(secret, count)| {
            Some(format!("{count} keys need {}, which is not given, and are refused", (*secret)?))
        }));
        Ok(parts.join("; "))
    }

    /// Rewrites keys of one tenant, given by their old and new digests, in one change. Returns how many were still current.
    async fn redigest(&self, tenant: &TenantId, keys: &[(KeyDigest, KeyDigest)]) -> Result<u64, Error> {
        let secret = self.keyring.current().fingerprint;
        let redigested = self.change(|_| async move {
            let event = self.event(&origin(AuditActor::keymark(), self.request(None)), AuditAction::KeysRedigested);
            let (mut batch, mut count) = (Batch::new(tenant.clone(), event), 0);
            // The current and the retiring key of a system may be digested anew in the same change.
            let mut systems: HashMap<SystemId, System> = HashMap::new();
            for (old, new) in keys {
                let Some(key) = self.store.find_key_to_change(*old).await? else { continue };
                let system = match systems.get(&key.system) {
                    Some(system) => Some(system.clone()),
                    None => skip_unreadable(self.store.find_system(tenant, key.system).await)?.flatten(),
                };
                let Some(system) = system else { continue };
                let Some((system, redigested)) = system.redigest_key(&key, (*new, secret)) else { continue };
                if old == new {
                    batch = batch.replace(Row::Key(redigested));
                } else {
                    systems.insert(system.id, system);
                    // Put before the old row is deleted, so that a verification finds one of the two.
                    batch = batch.insert(Row::Key(redigested)).delete(&Row::Key(key));
                }
                count += 1;
            }
            batch = systems.into_values().fold(batch, |batch, system| batch.rewrite(Row::System(system)));
            if count == 0 {
                return Ok(Decision::Unchanged(0));
            }
            batch.event = batch.event.with_count(count);
            Ok(Decision::commit(batch, count))
        });
        // Until an instance has the new digest, it verifies the key by the old one.
        Ok(redigested.await?.without_waiting())
    }
}

/// Reads all keys, and counts the current ones by the root secret that their row names.
pub async fn count_keys_by_secret(store: &dyn Store) -> Result<HashMap<Option<Fingerprint>, u64>, StoreError> {
    let mut rows = store.scan_rows().await?;
    let mut counts = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        if let StoredRow::Readable(Row::Key(Key { revoked_at: None, secret, .. })) = row {
            *counts.entry(secret).or_default() += 1;
        }
    }
    Ok(counts)
}
