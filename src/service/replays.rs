//! Replaying an export of the audit log in a store that was restored from an older backup: takes away again what was
//! taken away after the backup.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use super::commit::Decision;
use super::error::Error;
use super::keys::{end_keys, update_keys};
use super::operators::Target;
use super::restores::list_restores_of;
use super::{Enforcement, Service};
use crate::audit_text::verification::{self, ExportBreak, Verified};
use crate::domain::audit::{AuditAction, AuditHead, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::{OperatorId, SystemId, TenantId};
use crate::domain::keys::{KeyEnd, Mark};
use crate::domain::operators::Operator;
use crate::domain::replays::{ExportedHistory, Gap, Loss, LossEntry};
use crate::domain::restores::Restore;
use crate::domain::time::Timestamp;

/// Precedes, in the name of the setting with the last entry that was replayed, the tenant and the number of the last entry in
/// common.
const REPLAYED_SETTING: &str = "audit-replayed/";

/// An export that can be replayed.
pub struct Replay {
    pub tenant: TenantId,
    /// The last entry that the export and the store's log have in common.
    pub common: AuditHead,
    /// The last entry of the export.
    pub end: AuditHead,
    /// The losses that were not replayed yet, the oldest first.
    pub losses: Vec<LossEntry>,
    /// Records that the store was restored, if that was not recorded before.
    pub restores: Vec<Restore>,
}

/// Why an export cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Export(#[from] ExportBreak),
    #[error(transparent)]
    Gap(#[from] Gap),
    #[error(
        "the log of tenant {tenant} in the store does not contain entry {number}, after which the export begins: it begins \
         too late (replay the archives from before it first), or shows the log of another store"
    )]
    Unconnected { tenant: TenantId, number: u64 },
    #[error(
        "the last entry that the export and the log of tenant {tenant} in the store have in common was archived, so it is \
         not known what the store lacks"
    )]
    Archived { tenant: TenantId },
    #[error(
        "the export and the log of tenant {tenant} in the store have no entry in common: it shows another store's log"
    )]
    OtherLog { tenant: TenantId },
    #[error(transparent)]
    Service(#[from] Error),
}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        Self::Export(error.into())
    }
}

impl Service {
    /// Verifies an export, and finds out what it takes away that the store still has. Ends all sessions first, as
    /// [`mark_restored`](Self::mark_restored) does, if the store lacks entries of the export and this was not done yet.
    pub async fn begin_replay(&self, origin: &Origin, file: PathBuf) -> Result<Replay, ReplayError> {
        let keys = self.keyring.public_keys();
        let read = move || {
            let mut history = ExportedHistory::default();
            let Verified { checkpoint, .. } =
                verification::read(BufReader::new(File::open(file)?), &keys, |exported| history.add(exported))?;
            history.check_complete(&checkpoint.head())?;
            Ok::<_, ReplayError>((history, checkpoint))
        };
        let (history, checkpoint) = tokio::task::spawn_blocking(read).await.map_err(io::Error::from)??;
        let (tenant, end) = (checkpoint.tenant.clone(), checkpoint.head());
        let common = self.find_last_common(&tenant, &history).await?;
        let mut restores = Vec::new();
        if common != end {
            let recorded = list_restores_of(self.store.as_ref(), &self.keyring.public_keys(), &tenant)
                .await
                .map_err(Error::from)?;
            if !recorded.iter().any(|restore| restore.replaces(&checkpoint)) {
                let mut lost = self.find_lost_checkpoints().await?;
                lost.push(checkpoint);
                restores = self.raise_epoch(origin, &lost, &BTreeMap::from([(tenant.clone(), common.number)])).await?;
            }
        }
        let from = match self.find_replayed(&tenant, &common).await?.1 {
            Some(replayed) if replayed.number >= end.number => end.number,
            Some(replayed) if history.contains(&replayed) => replayed.number,
            _ => common.number,
        };
        Ok(Replay { tenant, common, end, losses: history.losses_after(from), restores })
    }

    /// Finds the last entry that is in the export and in the store. All entries before it are equal too, since its hash
    /// covers them. For an export that continues one that was replayed, that is the one of that export.
    async fn find_last_common(&self, tenant: &TenantId, history: &ExportedHistory) -> Result<AuditHead, ReplayError> {
        loop {
            let start = self.audit_start(tenant).await?;
            let found = self.find_last_common_after(&start, tenant, history).await;
            // Otherwise entries were archived while they were looked up.
            if self.audit_start(tenant).await? == start {
                return found;
            }
        }
    }

    async fn find_last_common_after(
        &self,
        start: &AuditHead,
        tenant: &TenantId,
        history: &ExportedHistory,
    ) -> Result<AuditHead, ReplayError> {
        let heads = history.heads();
        let is_in_store = async |head: &AuditHead| -> Result<bool, Error> {
            if head.number <= start.number {
                // Of the archived entries only the last one is known.
                return Ok(head.number < start.number || head == start);
            }
            Ok(self.store.find_audit_hashes(tenant, &[head.number]).await?.contains(head))
        };
        let first = heads.first().copied().unwrap_or_default();
        if !is_in_store(&first).await? {
            if let Some(common) = self.find_common_before(tenant, heads).await? {
                return Ok(common);
            }
            return Err(ReplayError::Unconnected { tenant: tenant.clone(), number: first.number });
        }
        let (mut common, mut other) = (0, heads.len());
        while other - common > 1 {
            let middle = common.midpoint(other);
            if is_in_store(&heads[middle]).await? { common = middle } else { other = middle }
        }
        let common = heads.get(common).copied().unwrap_or_default();
        if common.number < start.number && heads.last() != Some(&common) {
            return Err(ReplayError::Archived { tenant: tenant.clone() });
        }
        if common.number == 0 && self.store.audit_head(tenant).await.map_err(Error::from)?.number > 0 {
            return Err(ReplayError::OtherLog { tenant: tenant.clone() });
        }
        Ok(common)
    }

    /// Takes away again what an entry of the export took away. Returns `false` if the store does not have it.
    pub async fn replay(self: &Arc<Self>, origin: &Origin, tenant: &TenantId, loss: &Loss) -> Result<bool, Error> {
        match *loss {
            Loss::Key { system, mark } => self.replay_revocation(origin, tenant, system, mark).await,
            Loss::KeyTime { expires_at: None, .. }
            | Loss::Suspension { is_suspended: false, .. }
            | Loss::OperatorSuspension { is_suspended: false, .. }
            | Loss::TenantSuspension { is_suspended: false } => Ok(false),
            Loss::KeyTime { system, mark, expires_at: Some(end) } => {
                self.replay_key_end(origin, tenant, system, mark, end).await
            }
            Loss::Suspension { system, is_suspended: true } => self.replay_suspension(origin, tenant, system).await,
            Loss::System(system) => self.replay_deletion(origin, tenant, system).await,
            Loss::Operator(id) => {
                let Some(operator) = self.find_operator_of(tenant, id).await? else { return Ok(false) };
                self.remove_operator(Target::CommandLine(origin, &operator.username)).await.and_then(enforced)
            }
            Loss::Permissions { operator, remaining } => {
                let Some(operator) = self.find_operator_of(tenant, operator).await? else { return Ok(false) };
                let remaining = operator.permissions.intersection(remaining);
                if remaining == operator.permissions {
                    return Ok(false);
                }
                let target = Target::CommandLine(origin, &operator.username);
                self.set_permissions(target, Some(remaining)).await.and_then(enforced)
            }
            Loss::OperatorSuspension { operator, is_suspended: true } => {
                let Some(operator) = self.find_operator_of(tenant, operator).await? else { return Ok(false) };
                if operator.suspended_at.is_some() {
                    return Ok(false);
                }
                self.suspend_operator(Target::CommandLine(origin, &operator.username)).await.and_then(enforced)
            }
            Loss::Token(token) => self.replay_token_revocation(origin, tenant, token).await,
            Loss::TenantSuspension { is_suspended: true } => match self.find_tenant_to_change(tenant).await? {
                Some(found) if found.suspended.is_none() => {
                    self.suspend_tenant(origin, tenant, None).await.and_then(enforced)
                }
                _ => Ok(false),
            },
            Loss::Tenant if self.find_tenant_to_change(tenant).await?.is_none() => Ok(false),
            Loss::Tenant => self.delete_tenant(origin, tenant).await.map(|()| true),
            Loss::Password(operator) => {
                let Some(operator) = self.find_operator_of(tenant, operator).await? else { return Ok(false) };
                // Nobody learns this one, so the operator needs another.
                let target = Target::CommandLine(origin, &operator.username);
                self.set_password(target, self.generate_password()).await.and_then(enforced)
            }
        }
    }

    /// Records that the export was replayed, so that doing it again does not undo what is changed from now on.
    pub async fn finish_replay(&self, replay: &Replay) -> Result<(), Error> {
        let end = serde_json::to_string(&replay.end).expect("a head has string keys and plain values alone");
        loop {
            let (stored, replayed) = self.find_replayed(&replay.tenant, &replay.common).await?;
            if replayed.is_some_and(|replayed| replayed.number >= replay.end.number) {
                return Ok(());
            }
            let name = replayed_setting(&replay.tenant, &replay.common);
            if self.store.replace_setting(&name, stored.as_deref(), &end).await? {
                return Ok(());
            }
        }
    }

    /// The last entry in common with an export that was replayed up to the first of these entries, or beyond the last one.
    async fn find_common_before(&self, tenant: &TenantId, heads: &[AuditHead]) -> Result<Option<AuditHead>, Error> {
        let prefix = format!("{REPLAYED_SETTING}{tenant}/");
        for (name, value) in self.store.list_settings(&prefix).await? {
            let Ok(replayed) = serde_json::from_str::<AuditHead>(&value) else { continue };
            if (heads.first() == Some(&replayed) || heads.last().is_some_and(|last| last.number <= replayed.number))
                && let Some(number) = name.strip_prefix(&prefix).and_then(|number| number.parse::<u64>().ok())
            {
                let known = [AuditHead::default(), self.audit_start(tenant).await?];
                let found = self.store.find_audit_hashes(tenant, &[number]).await?;
                return Ok(known.into_iter().chain(found).find(|head| head.number == number));
            }
        }
        Ok(None)
    }

    /// The last entry that was replayed of the history after `common`, as stored and read.
    async fn find_replayed(
        &self,
        tenant: &TenantId,
        common: &AuditHead,
    ) -> Result<(Option<String>, Option<AuditHead>), Error> {
        let stored = self.store.find_setting(&replayed_setting(tenant, common)).await?;
        let replayed = stored.as_deref().and_then(|text| serde_json::from_str(text).ok());
        Ok((stored, replayed))
    }

    async fn find_operator_of(&self, tenant: &TenantId, id: OperatorId) -> Result<Option<Operator>, Error> {
        Ok(self.store.find_operator(id).await?.filter(|operator| operator.tenant == *tenant))
    }

    async fn replay_revocation(
        &self,
        origin: &Origin,
        tenant: &TenantId,
        id: SystemId,
        mark: Mark,
    ) -> Result<bool, Error> {
        let revoked = self.change(|reads| async move {
            let Ok(system) = self.find_system_to_change::<bool>(tenant, id, reads).await? else {
                return Ok(Decision::Repeat(Ok(false)));
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let Some(key) = keys.iter().find(|key| key.mark == mark) else { return Ok(Decision::Repeat(Ok(false))) };
            let now = self.environment.now();
            let without = system.without_key(key, KeyEnd::Revoked, now, now);
            let event = self.event(origin, AuditAction::KeyRevoked).about_system(&without).about_key(mark);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(without.clone()));
            Ok(Decision::commit(batch.replace(Row::Key(key.ended(KeyEnd::Revoked, without.updated_at))), true))
        });
        self.require_enforced(revoked.await?).await
    }

    async fn replay_key_end(
        &self,
        origin: &Origin,
        tenant: &TenantId,
        id: SystemId,
        mark: Mark,
        end: Timestamp,
    ) -> Result<bool, Error> {
        self.require_second_format()?;
        let changed = self.change(|reads| async move {
            let Ok(system) = self.find_system_to_change::<bool>(tenant, id, reads).await? else {
                return Ok(Decision::Repeat(Ok(false)));
            };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let key = keys.iter().find(|key| key.mark == mark && key.expires_at.is_none_or(|earlier| earlier > end));
            let Some(key) = key else { return Ok(Decision::Repeat(Ok(false))) };
            let changed = system.set_key_expiry(key.role, Some(end), self.environment.now())?;
            let Some(changed) = changed else { return Ok(Decision::Retry) };
            let event = self
                .event(origin, AuditAction::KeyExpiryChanged)
                .about_system(&changed)
                .about_key(mark)
                .about_key_end(key.role, Some(end));
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(changed.clone()));
            Ok(Decision::commit(batch.replace(Row::Key(key.in_system(&changed))), true))
        });
        self.require_enforced(changed.await?).await
    }

    async fn replay_suspension(&self, origin: &Origin, tenant: &TenantId, id: SystemId) -> Result<bool, Error> {
        self.require_second_format()?;
        let suspended = self.change(|reads| async move {
            let Ok(system) = self.find_system_to_change::<bool>(tenant, id, reads).await? else {
                return Ok(Decision::Repeat(Ok(false)));
            };
            let suspended = system.suspend(None, self.environment.now());
            let Some(suspended) = suspended else { return Ok(Decision::Repeat(Ok(false))) };
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let event = self.event(origin, AuditAction::SystemSuspended).about_system(&suspended);
            let batch = Batch::new(tenant.clone(), event).replace(Row::System(suspended.clone()));
            Ok(Decision::commit(update_keys(batch, &keys, &suspended), true))
        });
        self.require_enforced(suspended.await?).await
    }

    async fn replay_deletion(&self, origin: &Origin, tenant: &TenantId, id: SystemId) -> Result<bool, Error> {
        let deleted = self.change(|reads| async move {
            let Ok(system) = self.find_system_to_change::<bool>(tenant, id, reads).await? else {
                return Ok(Decision::Repeat(Ok(false)));
            };
            let event =
                self.event(origin, AuditAction::SystemDeleted).about_deleted_system(&system).about_keys_of(&system);
            let Some(keys) = self.load_live_keys(&system).await? else { return Ok(Decision::Retry) };
            let batch = Batch::new(tenant.clone(), event).delete(&Row::System(system.clone()));
            Ok(Decision::commit(end_keys(batch, &keys, KeyEnd::SystemDeleted, self.environment.now()), true))
        });
        self.require_enforced(deleted.await?).await
    }
}

/// The outcome of a loss that was replayed.
fn enforced<T>((_, enforcement): (T, Enforcement)) -> Result<bool, Error> {
    if enforcement.is_enforced { Ok(true) } else { Err(Error::NotEnforced) }
}

fn replayed_setting(tenant: &TenantId, common: &AuditHead) -> String {
    format!("{REPLAYED_SETTING}{tenant}/{}", common.number)
}
