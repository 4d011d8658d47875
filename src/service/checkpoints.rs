//! Checkpoints of the audit logs: signs where the logs end, and verifies logs against what was signed.
//!
//! A checkpoint is signed only for a log that continues the last one: each entry since is chained to the one before it.
//! So somebody who can only write to the store cannot have a rewritten history signed, except for the entries since the
//! last checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::consume_budget;

use super::Service;
use super::archives::list_archives;
use super::error::Error;
use super::restores::{list_restores, list_restores_of};
use crate::domain::archives::Archive;
use crate::domain::audit::{AuditHead, ChainBreak, EntryHash};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::ids::TenantId;
use crate::domain::restores::Restore;
use crate::domain::signatures::PublicKey;
use crate::store::StoreError;

/// Precedes the tenant in the name of the setting with its newest checkpoint.
const SETTING: &str = "audit-checkpoint/";
/// Entries per read when a log is verified.
const PAGE_SIZE: usize = 500;
/// Logs that are verified concurrently.
const MAX_CONCURRENT_LOGS: usize = 8;

/// Result of [`Service::checkpoint_audit`], by tenant.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// The newest checkpoint of each intact log.
    pub newest: Vec<Checkpoint>,
    /// Logs that differ from what was written. None of their checkpoints is replaced.
    pub broken: Vec<(TenantId, ChainBreak)>,
}

/// A log that is as it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedLog {
    /// Number of entries in the store.
    pub entries: u64,
    /// The last archive of entries before them.
    pub archive: Option<Archive>,
}

/// The checkpoints of all tenants that a log is verified against.
#[derive(Default)]
pub struct KnownCheckpoints {
    found: HashMap<TenantId, Known>,
    given: BTreeMap<TenantId, Vec<Checkpoint>>,
    /// By tenant, the oldest record of each first.
    restores: BTreeMap<TenantId, Vec<Restore>>,
    archives: BTreeMap<TenantId, Archive>,
}

impl KnownCheckpoints {
    /// The signed records of restored backups in the tenant's log, the oldest first, which name the checkpoints of
    /// the histories that a backup has replaced.
    pub fn restores(&self, tenant: &TenantId) -> &[Restore] {
        self.restores.get(tenant).map_or(&[], Vec::as_slice)
    }

    /// The checkpoints of the tenant that were given to compare its log with, and those in the configuration.
    pub fn given_of(&self, tenant: &TenantId) -> &[Checkpoint] {
        self.given.get(tenant).map_or(&[], Vec::as_slice)
    }

    /// The signed record of the last archive of the tenant's log.
    fn archive(&self, tenant: &TenantId) -> Option<&Archive> {
        self.archives.get(tenant)
    }
}

/// The checkpoints of a tenant that this instance can find.
#[derive(Clone, Default)]
struct Known {
    /// The value of its setting.
    stored: Option<String>,
    /// The one beside the embedded store.
    in_file: Option<Checkpoint>,
}

impl Known {
    fn stored(&self) -> Option<Checkpoint> {
        self.stored.as_deref().and_then(|text| serde_json::from_str(text).ok())
    }

    /// Returns the checkpoints of entries that one of these keys has signed, without those of replaced histories and of
    /// archived entries, in the order of their numbers.
    fn signed_by(&self, keys: &[PublicKey], restores: &[Restore], archive: Option<&Archive>) -> Vec<Checkpoint> {
        let mut signed: Vec<_> = self.stored().into_iter().chain(self.in_file.clone()).collect();
        signed.retain(|checkpoint| {
            let is_replaced = restores.iter().any(|restore| restore.replaces(checkpoint));
            let is_archived = archive.is_some_and(|archive| archive.covers(checkpoint));
            checkpoint.number > 0 && checkpoint.is_signed_by(keys) && !is_replaced && !is_archived
        });
        signed.sort_by_key(|checkpoint| checkpoint.number);
        signed
    }
}

impl Service {
    /// Signs the end of each log that moved since its last checkpoint, or whose checkpoint is signed by a previous root
    /// secret, as are records of restored backups. To be called each hour, and before the process ends.
    pub async fn checkpoint_audit(&self) -> Result<Checkpoints, Error> {
        let mut known = self.find_checkpoints(Vec::new()).await?;
        self.read_epoch().await?;
        self.sign_restores_anew(known.restores.values().flatten()).await?;
        let mut found = std::mem::take(&mut known.found);
        for tenant in self.store.list_tenants().await? {
            found.entry(tenant).or_default();
        }
        let signed = stream::iter(found)
            .map(async |(tenant, found)| {
                // Nothing else would yield over the embedded store, for as long as there are logs that did not move.
                consume_budget().await;
                let (restores, archive) = (known.restores(&tenant), known.archive(&tenant));
                let signed = self.sign_end(&tenant, &found, restores, archive).await?;
                Ok::<_, Error>((tenant, signed))
            })
            .buffer_unordered(MAX_CONCURRENT_LOGS);
        let mut checkpoints = Checkpoints::default();
        for (tenant, signed) in signed.try_collect::<Vec<_>>().await? {
            match signed {
                Ok(checkpoint) => checkpoints.newest.push(checkpoint),
                Err(broken) => checkpoints.broken.push((tenant, broken)),
            }
        }
        checkpoints.newest.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        checkpoints.broken.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.write_checkpoint_file(&checkpoints.newest).await;
        if checkpoints.broken.is_empty() {
            self.metrics.checkpoints_completed(self.environment.now());
        }
        self.maintain_archives(known.archives.values()).await;
        Ok(checkpoints)
    }

    /// Signs the end of a tenant's log if it moved, and returns its newest checkpoint.
    pub(super) async fn checkpoint_tenant(&self, tenant: &TenantId) -> Result<Result<Checkpoint, ChainBreak>, Error> {
        let stored = self.store.find_setting(&setting(tenant)).await?;
        let in_file = self.read_checkpoint_file().await.into_iter().find(|checkpoint| checkpoint.tenant == *tenant);
        let restores = list_restores_of(self.store.as_ref(), &self.keyring.public_keys(), tenant).await?;
        let archive = self.find_archive(tenant).await?;
        let signed = self.sign_end(tenant, &Known { stored, in_file }, &restores, archive.as_ref()).await?;
        if let Ok(checkpoint) = &signed {
            self.write_checkpoint_file(std::slice::from_ref(checkpoint)).await;
        }
        Ok(signed)
    }

    async fn sign_end(
        &self,
        tenant: &TenantId,
        known: &Known,
        restores: &[Restore],
        archive: Option<&Archive>,
    ) -> Result<Result<Checkpoint, ChainBreak>, Error> {
        let (key, keys) = (&self.keyring.current().checkpoints, self.keyring.public_keys());
        let before = known.signed_by(&keys, restores, archive);
        let is_current =
            |stored: &Checkpoint, head: AuditHead| stored.head() == head && stored.is_signed_by(&[key.public_key()]);
        // Nothing was written since, as in most logs at most times.
        if let Ok(head) = self.store.audit_head(tenant).await
            && let Some(stored) = known.stored().filter(|stored| is_current(stored, head))
            && before.iter().all(|checkpoint| checkpoint.head() == head)
        {
            return Ok(Ok(stored));
        }
        let verified = match self.find_unsigned_entry(tenant, &before).await? {
            Some(broken) => Err(broken),
            None => {
                let last = before.last().map_or_else(|| last_of(archive), Checkpoint::head);
                self.verify_chain(tenant, last, &BTreeMap::new()).await?
            }
        };
        let head = match verified {
            Ok(head) => head,
            Err(broken) => {
                let newer = self.find_archive(tenant).await?;
                if last_of(newer.as_ref()) != last_of(archive) {
                    // Entries were archived while they were read.
                    return Box::pin(self.sign_end(tenant, known, restores, newer.as_ref())).await;
                }
                self.metrics.audit_breaks.inc();
                tracing::error!(%tenant, %broken, "audit log differs from what was written; no checkpoint signed");
                return Ok(Err(broken));
            }
        };
        if let Some(stored) = known.stored().filter(|stored| is_current(stored, head)) {
            return Ok(Ok(stored));
        }
        if known.stored.is_some() && before.is_empty() {
            tracing::warn!(%tenant, "audit checkpoint of an unknown key replaced; whole log verified");
        }
        let checkpoint = Checkpoint::sign(key, tenant.clone(), head, self.environment.now(), None);
        self.store_checkpoint(&checkpoint, known.stored.clone()).await?;
        self.metrics.checkpoints.inc();
        tracing::info!(
            %tenant, number = checkpoint.number, hash = %checkpoint.hash, signed_at = checkpoint.signed_at.as_millis(),
            key = %checkpoint.key_id, signature = %checkpoint.signature, "audit checkpoint signed"
        );
        Ok(Ok(checkpoint))
    }

    /// The first of these checkpoints whose entry is not in the log.
    async fn find_unsigned_entry(
        &self,
        tenant: &TenantId,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<ChainBreak>, Error> {
        let numbers: Vec<u64> = checkpoints.iter().map(|checkpoint| checkpoint.number).collect();
        if numbers.is_empty() {
            return Ok(None);
        }
        let found = match self.store.find_audit_hashes(tenant, &numbers).await {
            Err(StoreError::Corrupt(_)) => return Ok(Some(ChainBreak::Unreadable { number: numbers[0] })),
            found => found?,
        };
        let other = checkpoints.iter().find(|checkpoint| !found.contains(&checkpoint.head()));
        Ok(other.map(|checkpoint| ChainBreak::Checkpoint { number: checkpoint.number }))
    }

    /// Stores a checkpoint in place of `expected`, unless another instance has stored one of the same end or a later one.
    async fn store_checkpoint(&self, checkpoint: &Checkpoint, mut expected: Option<String>) -> Result<(), Error> {
        let (name, json) = (setting(&checkpoint.tenant), checkpoint.to_json());
        while !self.store.replace_setting(&name, expected.as_deref(), &json).await? {
            expected = self.store.find_setting(&name).await?;
            let stored: Option<Checkpoint> = expected.as_deref().and_then(|text| serde_json::from_str(text).ok());
            if stored.is_some_and(|s| s.number >= checkpoint.number && s.is_signed_by(&[checkpoint.public_key])) {
                break;
            }
        }
        Ok(())
    }

    /// The tenants that have an audit log, or of whose log there is a checkpoint.
    pub async fn list_audited_tenants(&self, known: &KnownCheckpoints) -> Result<BTreeSet<TenantId>, Error> {
        let with_checkpoint = known.found.keys().chain(known.given.keys()).cloned();
        Ok(self.store.list_tenants().await?.into_iter().chain(with_checkpoint).collect())
    }

    /// Reads a tenant's whole log, and checks its chain, its end, and that it contains every entry that a known
    /// checkpoint was signed for, except for archived entries. Returns what it found, or the first place where the log
    /// differs.
    pub async fn verify_audit(
        &self,
        tenant: &TenantId,
        known: &KnownCheckpoints,
    ) -> Result<Result<VerifiedLog, ChainBreak>, Error> {
        self.verify_audit_with(tenant, known, None).await
    }

    /// As [`verify_audit`](Self::verify_audit), and checks that the log contains the entry `required`.
    pub(super) async fn verify_audit_with(
        &self,
        tenant: &TenantId,
        known: &KnownCheckpoints,
        required: Option<AuditHead>,
    ) -> Result<Result<VerifiedLog, ChainBreak>, Error> {
        let mut archive = known.archive(tenant).cloned();
        loop {
            let broken = match self.verify_after(archive.as_ref(), tenant, known, required).await? {
                Ok(entries) => return Ok(Ok(VerifiedLog { entries, archive })),
                Err(broken) => broken,
            };
            // Entries may have been archived while they were read.
            let newer = self.find_archive(tenant).await?;
            if last_of(newer.as_ref()) == last_of(archive.as_ref()) {
                return Ok(Err(broken));
            }
            archive = newer;
        }
    }

    async fn verify_after(
        &self,
        archive: Option<&Archive>,
        tenant: &TenantId,
        known: &KnownCheckpoints,
        required: Option<AuditHead>,
    ) -> Result<Result<u64, ChainBreak>, Error> {
        let start = last_of(archive);
        // The entry about an archive is written after the archived entries were removed.
        if let Some(archive) = archive
            && self.store.find_audit_entry(tenant, archive.event.id).await?.is_some()
            && let Some(first) = self.store.list_audit_after(tenant, 0, 1).await?.first()
            && first.number <= start.number
        {
            return Ok(Err(ChainBreak::Archived { number: first.number }));
        }
        let found = known.found.get(tenant).cloned().unwrap_or_default();
        let given = known.given_of(tenant).iter().cloned();
        let keys = self.keyring.public_keys();
        let mut signed: BTreeMap<_, _> = known
            .restores(tenant)
            .iter()
            .map(Restore::common)
            .filter(|common| common.number > 0)
            .map(|common| (common.number, common.hash))
            .collect();
        for checkpoint in found.stored().into_iter().chain(found.in_file).chain(given) {
            if !checkpoint.is_signed_by(&keys) {
                return Ok(Err(ChainBreak::Signature { number: checkpoint.number }));
            }
            if known.restores(tenant).iter().any(|restore| restore.replaces(&checkpoint)) {
                continue;
            }
            if signed.insert(checkpoint.number, checkpoint.hash).is_some_and(|other| other != checkpoint.hash) {
                return Ok(Err(ChainBreak::Checkpoint { number: checkpoint.number }));
            }
        }
        if let Some(AuditHead { number, hash }) = required
            && signed.insert(number, hash).is_some_and(|other| other != hash)
        {
            return Ok(Err(ChainBreak::Checkpoint { number }));
        }
        if start.number > 0 && signed.get(&start.number).is_some_and(|hash| *hash != start.hash) {
            return Ok(Err(ChainBreak::Checkpoint { number: start.number }));
        }
        signed.retain(|number, _| *number > start.number);
        let verified = self.verify_chain(tenant, start, &signed).await?;
        Ok(verified.map(|head| head.number - start.number))
    }

    /// Reads the log after `last`, and checks its chain, that it ends where the store says, and that it contains the
    /// entries in `signed`, by number. Returns the end of the log.
    async fn verify_chain(
        &self,
        tenant: &TenantId,
        mut last: AuditHead,
        signed: &BTreeMap<u64, EntryHash>,
    ) -> Result<Result<AuditHead, ChainBreak>, Error> {
        let mut end = AuditHead::default();
        loop {
            let mut entries = self.store.list_audit_after(tenant, last.number, PAGE_SIZE).await;
            if let Err(StoreError::Corrupt(_)) = entries {
                entries = self.store.list_audit_after(tenant, last.number, 1).await;
            }
            let entries = match entries {
                Err(StoreError::Corrupt(_)) => return Ok(Err(ChainBreak::Unreadable { number: last.number + 1 })),
                entries => entries?,
            };
            // The end is read after the entries. If it lies beyond them, it may be newer: then there are more entries.
            if entries.is_empty() {
                if end.number > last.number {
                    return Ok(Err(ChainBreak::Tail { number: last.number + 1, written: end.number }));
                }
                end = match self.store.stored_audit_head(tenant).await {
                    Err(StoreError::Corrupt(_)) => return Ok(Err(ChainBreak::Head { number: last.number })),
                    end => end?,
                };
                if end == last {
                    break;
                }
                if end.number <= last.number {
                    return Ok(Err(ChainBreak::Head { number: last.number }));
                }
            }
            for entry in entries {
                if let Err(broken) = entry.check(&last) {
                    return Ok(Err(broken));
                }
                last = entry.head();
                if signed.get(&last.number).is_some_and(|hash| *hash != last.hash) {
                    return Ok(Err(ChainBreak::Checkpoint { number: last.number }));
                }
            }
        }
        Ok(match signed.last_key_value() {
            Some((written, _)) if *written > last.number => {
                Err(ChainBreak::Tail { number: last.number + 1, written: *written })
            }
            _ => Ok(last),
        })
    }

    /// Returns the newest checkpoints in the store and beside it, those in the configuration, and `others`.
    pub async fn find_checkpoints(&self, others: Vec<Checkpoint>) -> Result<KnownCheckpoints, Error> {
        let mut given = BTreeMap::<_, Vec<_>>::new();
        for checkpoint in others.into_iter().chain(self.settings.audit_checkpoints.iter().cloned()) {
            given.entry(checkpoint.tenant.clone()).or_default().push(checkpoint);
        }
        let mut found = HashMap::<_, Known>::new();
        for (name, value) in self.store.list_settings(SETTING).await? {
            match name.strip_prefix(SETTING).and_then(|tenant| tenant.parse().ok()) {
                Some(tenant) => found.entry(tenant).or_default().stored = Some(value),
                None => tracing::warn!(setting = name, "audit checkpoint of no tenant ignored"),
            }
        }
        for checkpoint in self.read_checkpoint_file().await {
            let tenant = checkpoint.tenant.clone();
            found.entry(tenant).or_default().in_file = Some(checkpoint);
        }
        let keys = self.keyring.public_keys();
        let restores = list_restores(self.store.as_ref(), &keys).await?;
        let archives = list_archives(self.store.as_ref(), &keys).await?;
        Ok(KnownCheckpoints { found, given, restores, archives })
    }

    pub(super) async fn read_checkpoint_file(&self) -> Vec<Checkpoint> {
        let Some(file) = self.checkpoint_file.clone() else { return Vec::new() };
        match tokio::task::spawn_blocking(move || file.read()).await.map_err(std::io::Error::from).flatten() {
            Ok(checkpoints) => checkpoints,
            Err(error) => {
                tracing::warn!(%error, "file of audit checkpoints not read");
                Vec::new()
            }
        }
    }

    /// A failure is only logged: the checkpoints are also stored.
    async fn write_checkpoint_file(&self, newest: &[Checkpoint]) {
        let Some(file) = self.checkpoint_file.as_ref().map(Arc::clone) else { return };
        let newest = newest.to_vec();
        let written = tokio::task::spawn_blocking(move || file.replace(&newest)).await;
        if let Err(error) = written.map_err(std::io::Error::from).flatten() {
            tracing::error!(%error, "file of audit checkpoints not written");
        }
    }
}

/// The last archived entry.
fn last_of(archive: Option<&Archive>) -> AuditHead {
    archive.map(Archive::last).unwrap_or_default()
}

fn setting(tenant: &TenantId) -> String {
    format!("{SETTING}{tenant}")
}
