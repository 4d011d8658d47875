//! Archives of the audit logs: moves the oldest entries of a log to a file.
//!
//! The file is an export that ends with its own checkpoint. A log is not cut before the file is verified and durable. Then
//! a signed record of the archive is stored; from there on the log is verified, exported and followed from the first entry
//! after the archive. The entries are removed, the oldest first, and the last step is an entry about the archive. An
//! archive that was interrupted after the record is finished by any instance: its entry is missing in the log.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::task::consume_budget;

use super::Service;
use super::audit::Exporter;
use super::error::Error;
use crate::audit_text::verification::{self, ExportBreak};
use crate::domain::actors::CommandUser;
use crate::domain::archives::Archive;
use crate::domain::audit::{AuditAction, AuditFilter, AuditHead, ChainBreak};
use crate::domain::changes::Batch;
use crate::domain::ids::TenantId;
use crate::domain::pages::{PageEnd, PageRequest};
use crate::domain::signatures::PublicKey;
use crate::domain::time::Timestamp;
use crate::files::{NewFile, NewFileError};
use crate::store::{SettingsStore, Store, StoreError};

/// Precedes the tenant in the name of the setting with the record of its last archive.
const SETTING: &str = "audit-archive/";

/// Why a log was not archived. No entry is removed, except after [`Unfinished`](Self::Unfinished).
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the date is in the future")]
    Future,
    #[error("tenant {0} not found")]
    NoTenant(TenantId),
    #[error("tenant {tenant}: {broken}; a log that differs from what was written is not archived")]
    Broken { tenant: TenantId, broken: ChainBreak },
    #[error(transparent)]
    File(#[from] NewFileError),
    #[error("the file differs from what was written ({0}); check the disk")]
    Damaged(ExportBreak),
    #[error("another process has archived this log meanwhile; run the command again")]
    Concurrent,
    /// The archive may have been recorded, and is then finished by any instance.
    #[error("the archive is not finished: {0}")]
    Unfinished(#[source] Error),
    #[error(transparent)]
    Service(#[from] Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// The records of the last archive of each log, as far as one of these keys has signed them.
pub(super) async fn list_archives(
    store: &dyn Store,
    keys: &[PublicKey],
) -> Result<BTreeMap<TenantId, Archive>, StoreError> {
    let mut archives = BTreeMap::new();
    for (name, value) in store.list_settings(SETTING).await? {
        // To verify many signatures takes long, and nothing else in this loop yields.
        consume_budget().await;
        if let Some(archive) = signed_record(&name, &value, keys) {
            archives.insert(archive.tenant.clone(), archive);
        }
    }
    Ok(archives)
}

/// The last archived entry of each log of which a part was archived. The signatures are not checked, since that takes the
/// root secret.
pub async fn list_starts(settings: &dyn SettingsStore) -> Result<BTreeMap<TenantId, AuditHead>, StoreError> {
    let stored = settings.list_settings(SETTING).await?;
    let records = stored.iter().filter_map(|(name, value)| record_of(name, value));
    Ok(records.map(|archive| (archive.tenant.clone(), archive.last())).collect())
}

fn record_of(name: &str, value: &str) -> Option<Archive> {
    let record: Option<Archive> = serde_json::from_str(value).ok();
    record.filter(|record| name.strip_prefix(SETTING) == Some(record.tenant.as_str()))
}

/// Reads a record. Without it, the first entries are missed in the log.
fn signed_record(name: &str, value: &str, keys: &[PublicKey]) -> Option<Archive> {
    let record = record_of(name, value).filter(|record| record.is_signed_by(keys));
    if record.is_none() {
        tracing::warn!(setting = name, "record of an audit archive ignored; no known key has signed it");
    }
    record
}

impl Service {
    /// The record of the last archive of a tenant's log.
    pub(super) async fn find_archive(&self, tenant: &TenantId) -> Result<Option<Archive>, Error> {
        let name = setting(tenant);
        let value = self.store.find_setting(&name).await?;
        Ok(value.and_then(|value| signed_record(&name, &value, &self.keyring.public_keys())))
    }

    /// The entry that the first one of the log continues: the last one that was archived.
    pub(super) async fn audit_start(&self, tenant: &TenantId) -> Result<AuditHead, Error> {
        Ok(self.find_archive(tenant).await?.map(|archive| archive.last()).unwrap_or_default())
    }

    /// Moves the oldest entries of a tenant's log to a new file: those before the first entry that occurred at `before` or
    /// later, except the last entry of the log. Returns `None`, and writes no file, if there are none.
    pub async fn archive_audit(
        self: &Arc<Self>,
        user: Option<&CommandUser>,
        tenant: &TenantId,
        before: Timestamp,
        file: &Path,
    ) -> Result<Option<Archive>, ArchiveError> {
        // Release 0.1 would find the log broken.
        self.require_second_format().map_err(Error::from)?;
        if before > self.environment.now() {
            return Err(ArchiveError::Future);
        }
        let _archiving = self.archiving.lock().await;
        let name = setting(tenant);
        let stored = self.store.find_setting(&name).await?;
        let earlier = stored.as_deref().and_then(|value| signed_record(&name, value, &self.keyring.public_keys()));
        if let Some(earlier) = &earlier {
            self.finish_archive(earlier).await?;
        }
        let known = self.find_checkpoints(Vec::new()).await?;
        if !self.list_audited_tenants(&known).await?.contains(tenant) {
            return Err(ArchiveError::NoTenant(tenant.clone()));
        }
        let start = earlier.as_ref().map(Archive::last).unwrap_or_default();
        let Some(last) = self.last_entry_before(tenant, before, &start).await? else { return Ok(None) };
        // With the last entry to be archived, so that what is archived is what was verified.
        let verified = self.verify_audit_with(tenant, &known, Some(last)).await?;
        verified.map_err(|broken| ArchiveError::Broken { tenant: tenant.clone(), broken })?;

        let new = NewFile::create(file)?;
        let exporter = Exporter::CommandLine(tenant.clone(), user.cloned());
        if let Err(error) = self.write_archive(&new, exporter, start, last).await {
            return Err(if self.audit_start(tenant).await? == start { error } else { ArchiveError::Concurrent });
        }
        tokio::task::spawn_blocking(move || new.publish()).await.map_err(io::Error::from)??;

        let origin = self.command_line_origin(user);
        let event = self.event(&origin, AuditAction::AuditArchived).with_count(last.number - start.number);
        let archive = Archive::sign(&self.keyring.current().checkpoints, tenant.clone(), last, event);
        let recorded = self.store.replace_setting(&name, stored.as_deref(), &archive.to_json()).await;
        if !recorded.map_err(|error| ArchiveError::Unfinished(error.into()))? {
            std::fs::remove_file(file)?;
            return Err(ArchiveError::Concurrent);
        }
        let finish = async {
            self.finish_archive(&archive).await?;
            // What is found is logged.
            self.checkpoint_tenant(tenant).await.map(drop)
        };
        finish.await.map_err(ArchiveError::Unfinished)?;
        Ok(Some(archive))
    }

    /// The last entry to be archived, if it comes after `start`.
    async fn last_entry_before(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        start: &AuditHead,
    ) -> Result<Option<AuditHead>, Error> {
        // Before the list, so that entries that are committed meanwhile are kept.
        let end = self.store.audit_head(tenant).await?.number;
        let since = AuditFilter { from: Some(before), ..AuditFilter::default() };
        let page = PageRequest { after: None, before: None, limit: 1, from: PageEnd::Last };
        let first_kept = self.store.list_audit(tenant, &since, &page).await?.items.pop();
        let last = first_kept.map_or(end, |entry| entry.number.min(end)).saturating_sub(1);
        if last <= start.number {
            return Ok(None);
        }
        Ok(self.store.find_audit_hashes(tenant, &[last]).await?.pop())
    }

    /// Writes the entries after `start` up to `last`, and a checkpoint of `last`, and verifies what was written.
    async fn write_archive(
        self: &Arc<Self>,
        new: &NewFile,
        exporter: Exporter,
        start: AuditHead,
        last: AuditHead,
    ) -> Result<(), ArchiveError> {
        let file = tokio::fs::OpenOptions::new().append(true).open(new.partial()).await?;
        let mut writer = BufWriter::new(file);
        let mut texts = std::pin::pin!(self.export_between(exporter, start, last));
        while let Some(text) = texts.try_next().await? {
            writer.write_all(text.as_bytes()).await?;
        }
        writer.flush().await?;
        let (path, keys) = (new.partial().to_owned(), self.keyring.public_keys());
        let verify = move || verification::verify(BufReader::new(std::fs::File::open(path)?), &keys);
        let verified = tokio::task::spawn_blocking(verify).await.map_err(io::Error::from)?;
        let verified = verified.map_err(ArchiveError::Damaged)?;
        if verified.entries == last.number - start.number {
            Ok(())
        } else {
            Err(ArchiveError::Damaged(ExportBreak::Digest { last: last.number }))
        }
    }

    /// Removes the entries of the last archive of a log, and writes the entry about it, unless that was done.
    async fn finish_archive(&self, archive: &Archive) -> Result<(), Error> {
        let Archive { tenant, number, event, .. } = archive;
        if self.store.find_audit_entry(tenant, event.id).await?.is_some() {
            return Ok(());
        }
        // A later archive may contain the entry.
        if self.find_archive(tenant).await?.is_none_or(|last| last.event.id != event.id) {
            return Ok(());
        }
        if self.store.find_audit_hashes(tenant, &[*number]).await?.iter().any(|entry| *entry != archive.last()) {
            let reason = format!("entry {number} is not the one that was archived; no entry is removed");
            return Err(StoreError::Corrupt(reason.into()).into());
        }
        let removed = self.store.purge_audit(tenant, *number).await?;
        self.metrics.archived_entries.inc_by(removed);
        self.commit(Batch::new(tenant.clone(), event.clone())).await?.without_waiting();
        tracing::info!(%tenant, last = number, entries = event.count, "audit log archived");
        Ok(())
    }

    /// Finishes archives that were interrupted, and signs records that a previous root secret has signed, so that it can be
    /// dropped. A failure is only logged.
    pub(super) async fn maintain_archives(&self, archives: impl IntoIterator<Item = &Archive>) {
        for archive in archives {
            // Reads of the embedded store do not yield.
            consume_budget().await;
            // Not while one is made, which does the same.
            let Ok(_archiving) = self.archiving.try_lock() else { return };
            if let Err(error) = self.maintain_archive(archive).await {
                tracing::warn!(tenant = %archive.tenant, %error, cause = error.source(), "audit archive not finished");
            }
        }
    }

    async fn maintain_archive(&self, archive: &Archive) -> Result<(), Error> {
        self.finish_archive(archive).await?;
        let key = &self.keyring.current().checkpoints;
        if archive.public_key != key.public_key() {
            let anew = archive.clone().signed_by(key).to_json();
            // Not if another instance has done it.
            self.store.replace_setting(&setting(&archive.tenant), Some(&archive.to_json()), &anew).await?;
        }
        Ok(())
    }
}

fn setting(tenant: &TenantId) -> String {
    format!("{SETTING}{tenant}")
}
