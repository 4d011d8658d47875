//! Restored backups. A backup brings back sessions that have ended, and lacks the end of each audit log.
//!
//! The store has an epoch, which increases when somebody states that the store was restored. That ends all sessions, and
//! signs for each log which part of it the backup has replaced. Until then Keymark does not serve a store that lacks an
//! entry which a checkpoint outside of it was signed for.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, future, stream};
use tokio::task::consume_budget;

use super::Service;
use super::archives::list_archives;
use super::commit::Decision;
use super::error::Error;
use crate::domain::archives::Archive;
use crate::domain::audit::{AuditAction, AuditHead, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::restores::Restore;
use crate::domain::signatures::PublicKey;
use crate::store::{Store, StoreError, skip_unreadable};

/// The setting with the store's epoch. Not set in a store that was never restored, whose epoch is 0.
const EPOCH_SETTING: &str = "store-epoch";
/// Precedes the tenant and the epoch in the name of the setting with a [`Restore`].
const RESTORE_SETTING: &str = "audit-restore/";
/// Maximum number of operators whose sessions one change ends, so that it takes the store no longer than others.
const MAX_OPERATORS_PER_CHANGE: usize = 100;
/// Tenants whose logs are read or written concurrently.
const MAX_CONCURRENT_TENANTS: usize = 8;

/// Returns those of the checkpoints whose entry is not in its log, unless a restored backup or an archive is recorded as the
/// cause. Ignores those that none of the keys has signed.
pub async fn find_lost_checkpoints(
    store: &dyn Store,
    keys: &[PublicKey],
    checkpoints: Vec<Checkpoint>,
) -> Result<Vec<Checkpoint>, StoreError> {
    let (restores, archives) = (list_restores(store, keys).await?, list_archives(store, keys).await?);
    let is_lost = async |checkpoint: &Checkpoint| {
        let of_tenant = restores.get(&checkpoint.tenant);
        let is_replaced = of_tenant.into_iter().flatten().any(|restore| restore.replaces(checkpoint));
        let is_archived = archives.get(&checkpoint.tenant).is_some_and(|archive| archive.covers(checkpoint));
        if checkpoint.number == 0 || is_replaced || is_archived {
            return Ok::<_, StoreError>(false);
        }
        let (tenant, head) = (&checkpoint.tenant, checkpoint.head());
        let found = skip_unreadable(store.find_audit_hashes(tenant, &[head.number]).await)?.unwrap_or_default();
        // The signature last: hardly any entry is missing.
        Ok(!found.contains(&head)
            && checkpoint.is_signed_by(keys)
            && skip_unreadable(store.recheck_audit_entry(tenant, head.number).await)?.flatten() != Some(head))
    };
    let checked = stream::iter(checkpoints)
        .map(async |checkpoint| Ok::<_, StoreError>(is_lost(&checkpoint).await?.then_some(checkpoint)))
        .buffered(MAX_CONCURRENT_TENANTS);
    checked.try_filter_map(future::ok).try_collect().await
}

/// The records of restored backups that one of these keys has signed, by tenant, the oldest of each first.
pub(super) async fn list_restores(
    store: &dyn Store,
    keys: &[PublicKey],
) -> Result<BTreeMap<TenantId, Vec<Restore>>, StoreError> {
    read_restores(store, keys, RESTORE_SETTING).await
}

/// As [`list_restores`], of one tenant.
pub(super) async fn list_restores_of(
    store: &dyn Store,
    keys: &[PublicKey],
    tenant: &TenantId,
) -> Result<Vec<Restore>, StoreError> {
    let mut restores = read_restores(store, keys, &format!("{RESTORE_SETTING}{tenant}/")).await?;
    Ok(restores.remove(tenant).unwrap_or_default())
}

async fn read_restores(
    store: &dyn Store,
    keys: &[PublicKey],
    prefix: &str,
) -> Result<BTreeMap<TenantId, Vec<Restore>>, StoreError> {
    let mut restores = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in store.list_settings(prefix).await? {
        // To verify many signatures takes long, and nothing else in this loop yields.
        consume_budget().await;
        match serde_json::from_str::<Restore>(&value) {
            Ok(restore) if restore.is_signed_by(keys) => {
                restores.entry(restore.tenant.clone()).or_default().push(restore);
            }
            // Without it, the checkpoints that it would excuse are missed in the log.
            _ => tracing::warn!(setting = name, "record of a restored backup ignored; no known key has signed it"),
        }
    }
    for of_tenant in restores.values_mut() {
        of_tenant.sort_by_key(|restore| restore.epoch);
    }
    Ok(restores)
}

impl Service {
    /// Returns the checkpoints beside the store, and in the configuration, that an entry is missing for.
    pub async fn find_lost_checkpoints(&self) -> Result<Vec<Checkpoint>, Error> {
        let mut outside = self.read_checkpoint_file().await;
        outside.extend_from_slice(&self.settings.audit_checkpoints);
        Ok(find_lost_checkpoints(self.store.as_ref(), &self.keyring.public_keys(), outside).await?)
    }

    /// Raises the epoch of a store that was restored from a backup: ends all sessions on every instance, and records for
    /// each log that the checkpoints of the history after the backup are not missed. Returns the records.
    pub async fn mark_restored(&self, origin: &Origin) -> Result<Vec<Restore>, Error> {
        let lost = self.find_lost_checkpoints().await?;
        self.raise_epoch(origin, &lost, &BTreeMap::new()).await
    }

    /// As [`mark_restored`](Self::mark_restored), for these lost checkpoints. `common` has the numbers of the last entries
    /// in common with the replaced history, as far as they are known.
    pub(super) async fn raise_epoch(
        &self,
        origin: &Origin,
        lost: &[Checkpoint],
        common: &BTreeMap<TenantId, u64>,
    ) -> Result<Vec<Restore>, Error> {
        let logs = self.store.list_tenants().await?;
        let mut lost_by_tenant: BTreeMap<_, _> = logs.iter().map(|tenant| (tenant.clone(), Vec::new())).collect();
        for checkpoint in lost {
            lost_by_tenant.entry(checkpoint.tenant.clone()).or_default().push(checkpoint.clone());
        }
        let ends = stream::iter(lost_by_tenant).map(async |(tenant, lost)| {
            let end = self.find_common_entry(&tenant, &lost, common.get(&tenant).copied()).await?;
            Ok::<_, Error>((tenant, lost, end))
        });
        let ends: Vec<_> = ends.buffered(MAX_CONCURRENT_TENANTS).try_collect().await?;
        let mut operators = HashMap::<_, Vec<_>>::new();
        for operator in self.store.list_operators(None).await? {
            operators.entry(operator.tenant).or_default().push(operator.id);
        }
        let epoch = self.increment_epoch().await?;
        let ended = stream::iter(&logs).map(Ok).try_for_each_concurrent(MAX_CONCURRENT_TENANTS, async |tenant| {
            let operators = operators.get(tenant).map_or(&[][..], Vec::as_slice);
            self.end_sessions_of(origin, tenant, operators).await
        });
        ended.await?;
        // Last, so that Keymark does not serve the store if this did not get so far.
        let restores = stream::iter(ends).map(async |(tenant, lost, end)| {
            let (key, now) = (&self.keyring.current().checkpoints, self.environment.now());
            let restore = Restore::sign(key, tenant, epoch, end, &lost, now);
            self.store.replace_setting(&setting(&restore), None, &restore.to_json()).await?;
            Ok::<_, Error>(restore)
        });
        let restores = restores.buffered(MAX_CONCURRENT_TENANTS).try_collect().await?;
        tracing::warn!(epoch, "store restored from a backup; all sessions ended");
        Ok(restores)
    }

    /// Signs records under the current root secret that a previous one has signed, so that it can be dropped.
    pub(super) async fn sign_restores_anew(&self, restores: impl IntoIterator<Item = &Restore>) -> Result<(), Error> {
        let key = &self.keyring.current().checkpoints;
        let old = restores.into_iter().filter(|restore| restore.public_key != key.public_key()).cloned();
        let old: Vec<Restore> = old.collect();
        let signed = stream::iter(&old).map(Ok).try_for_each_concurrent(MAX_CONCURRENT_TENANTS, async |restore| {
            let anew = restore.clone().signed_by(key).to_json();
            // Not if another instance has done it.
            self.store.replace_setting(&setting(restore), Some(&restore.to_json()), &anew).await?;
            Ok(())
        });
        signed.await
    }

    /// The last entry of the tenant's log that comes before everything of it that is known to be lost.
    async fn find_common_entry(
        &self,
        tenant: &TenantId,
        lost: &[Checkpoint],
        common: Option<u64>,
    ) -> Result<AuditHead, Error> {
        let head = self.store.audit_head(tenant).await?;
        let number = lost.iter().map(|checkpoint| checkpoint.number - 1).chain(common).fold(head.number, u64::min);
        if number == head.number {
            return Ok(head);
        }
        if number == 0 {
            return Ok(AuditHead::default());
        }
        let archived = self.find_archive(tenant).await?.as_ref().map(Archive::last);
        let found = self.store.find_audit_hashes(tenant, &[number]).await?.into_iter().chain(archived);
        let found = found.into_iter().find(|head| head.number == number);
        Ok(found.ok_or_else(|| StoreError::Corrupt(format!("the audit log lacks entry {number}").into()))?)
    }

    /// Reads the epoch for the metric.
    pub(super) async fn read_epoch(&self) -> Result<(), Error> {
        let epoch = self.find_epoch().await?.1;
        self.metrics.epoch.set(epoch.try_into().unwrap_or(i64::MAX));
        Ok(())
    }

    async fn find_epoch(&self) -> Result<(Option<String>, u64), Error> {
        let stored = self.store.find_setting(EPOCH_SETTING).await?;
        let epoch = stored.as_deref().and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok((stored, epoch))
    }

    async fn increment_epoch(&self) -> Result<u64, Error> {
        loop {
            let (stored, epoch) = self.find_epoch().await?;
            let raised = epoch + 1;
            if self.store.replace_setting(EPOCH_SETTING, stored.as_deref(), &raised.to_string()).await? {
                self.read_epoch().await?;
                return Ok(raised);
            }
        }
    }

    /// Ends the sessions of these operators, which are all of the tenant. One entry for each change of up to
    /// [`MAX_OPERATORS_PER_CHANGE`].
    async fn end_sessions_of(&self, origin: &Origin, tenant: &TenantId, operators: &[OperatorId]) -> Result<(), Error> {
        let chunks = operators.chunks(MAX_OPERATORS_PER_CHANGE);
        let chunks: Vec<&[OperatorId]> = if operators.is_empty() { vec![&[]] } else { chunks.collect() };
        for chunk in chunks {
            let ended = self.change(|_| async move {
                let now = self.environment.now();
                let mut batch = Batch::new(tenant.clone(), self.event(origin, AuditAction::StoreRestored));
                let found = future::try_join_all(chunk.iter().map(|id| self.store.find_operator(*id))).await?;
                for operator in found.into_iter().flatten() {
                    batch = batch.replace(Row::Operator(operator.without_sessions(now)));
                }
                Ok(Decision::commit(batch, ()))
            });
            self.require_enforced(ended.await?).await?;
        }
        Ok(())
    }
}

fn setting(restore: &Restore) -> String {
    format!("{RESTORE_SETTING}{}/{}", restore.tenant, restore.epoch)
}
