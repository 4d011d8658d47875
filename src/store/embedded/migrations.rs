//! Bringing the file of an earlier release up to date.

use redb::{Database, ReadableDatabase, ReadableTable};
use serde::Deserialize;

use super::rows::{Storage, put};
use super::subjects::{FilteredEntry, add_time, name_of, subjects_of};
use super::tables::{AUDIT, AUDIT_BY_SUBJECT, AUDIT_HEADS, AUDIT_TIMES, FEED, SETTINGS, SYSTEMS, TENANTS, decode};
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::changes::Row;
use crate::domain::ids::TenantId;
use crate::domain::systems::System;
use crate::domain::tenants::{LONGEST_LIFETIME_SETTING, Tenant, TenantPolicy};
use crate::domain::time::Timestamp;
use crate::store::errors::skip_unreadable;

/// Adds to each current key that release 0.1 generated when and by whom that was, from the audit log.
pub(super) fn record_origins(database: &Database) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_two_phase_commit(true);
    for system in systems_without_origins(&txn)? {
        let Some(entry) = newest_generation(&txn, &system)? else { continue };
        let key = system.key.clone().map(|mut key| {
            key.generated_at = Some(entry.event.occurred_at);
            key.generated_by = Some(entry.event.actor.clone());
            key
        });
        put(&txn, &Row::System(System { key, ..system }))?;
    }
    txn.commit()?;
    Ok(())
}

/// The audit entry of a change in the feed: its tenant and number.
#[derive(Deserialize)]
struct EntryOfChange {
    entry: Option<(String, u64)>,
}

/// Whether the index lacks the entry that was written last, by the feed. Release 0.1 opens the file of a later release, and
/// adds entries and tenants as it did before.
pub(super) fn lacks_entries(database: &Database) -> Result<bool, redb::Error> {
    let txn = database.begin_read()?;
    let (audit, by_subject) = (txn.open_table(AUDIT)?, txn.open_table(AUDIT_BY_SUBJECT)?);
    for change in txn.open_table(FEED)?.iter()?.rev() {
        let Some(EntryOfChange { entry: Some((tenant, number)) }) = read(change?.1.value())? else { continue };
        let Some(row) = audit.get((tenant.as_str(), number))? else { break };
        let Some(FilteredEntry { event }) = read(row.value())? else { break };
        for subject in subjects_of(&event.members()) {
            if by_subject.get((tenant.as_str(), subject.as_str(), number))?.is_none() {
                return Ok(true);
            }
        }
        break;
    }
    Ok(false)
}

/// Adds a row for each tenant that an earlier release has: one with an audit log, and without a deletion in it. It is named
/// by its id, was created with its first entry, and takes over the policy that was a setting.
pub(super) fn add_tenants(database: &Database) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_two_phase_commit(true);
    for id in tenants_without_row(&txn)? {
        let first: Option<AuditEntry> = match txn.open_table(AUDIT)?.get((id.as_str(), 1))? {
            Some(row) => read(row.value())?,
            None => None,
        };
        let created_at = first.map_or_else(Timestamp::default, |entry| entry.event.occurred_at);
        let setting = format!("{LONGEST_LIFETIME_SETTING}{id}");
        let days = txn.open_table(SETTINGS)?.remove(setting.as_str())?.and_then(|days| days.value().parse().ok());
        let policy = TenantPolicy { max_key_lifetime_days: days, ..TenantPolicy::default() };
        put(&txn, &Row::Tenant(Tenant { revision: 1, policy, ..Tenant::without_row(id, created_at) }))?;
    }
    txn.commit()?;
    Ok(())
}

/// Indexes audit entries by all their subjects and times. Earlier releases have an index by system and actor alone.
pub(super) fn index_audit(database: &Database) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_two_phase_commit(true);
    {
        let (audit, mut by_subject) = (txn.open_table(AUDIT)?, txn.open_table(AUDIT_BY_SUBJECT)?);
        let mut times = txn.open_table(AUDIT_TIMES)?;
        for row in audit.iter()? {
            let (key, row) = row?;
            let (tenant, number) = key.value();
            let Some(FilteredEntry { event }) = read(row.value())? else {
                // A filter by time still reads it, and so reports it.
                add_time(&mut times, (tenant, number), (i64::MIN, i64::MAX))?;
                continue;
            };
            let members = event.members();
            for subject in subjects_of(&members) {
                by_subject.insert((tenant, subject.as_str(), number), ())?;
            }
            let at = members.occurred_at.as_millis();
            add_time(&mut times, (tenant, number), (at, at))?;
        }
    }
    txn.commit()?;
    Ok(())
}

fn tenants_without_row(txn: &redb::WriteTransaction) -> Storage<Vec<TenantId>> {
    let (heads, tenants) = (txn.open_table(AUDIT_HEADS)?, txn.open_table(TENANTS)?);
    let (audit, by_subject) = (txn.open_table(AUDIT)?, txn.open_table(AUDIT_BY_SUBJECT)?);
    let deletion = name_of(AuditAction::TenantDeleted);
    let mut found = Vec::new();
    for row in heads.iter()? {
        let row = row?;
        let id = row.0.value();
        let mut deletions = by_subject.range((id, deletion.as_str(), 0)..=(id, deletion.as_str(), u64::MAX))?;
        // A log without its first entry was archived by a release that adds rows. The archive may contain the deletion.
        let is_whole = audit.get((id, 1))?.is_some();
        if is_whole && tenants.get(id)?.is_none() && deletions.next().is_none() {
            found.extend(id.parse::<TenantId>().ok());
        }
    }
    Ok(found)
}

fn systems_without_origins(txn: &redb::WriteTransaction) -> Storage<Vec<System>> {
    let systems = txn.open_table(SYSTEMS)?;
    let mut found = Vec::new();
    for row in systems.iter()? {
        let system: Option<System> = read(row?.1.value())?;
        found.extend(system.filter(|system| system.key.as_ref().is_some_and(|key| key.generated_at.is_none())));
    }
    Ok(found)
}

fn newest_generation(txn: &redb::WriteTransaction, system: &System) -> Storage<Option<AuditEntry>> {
    let (tenant, id) = (system.tenant.as_str(), system.id.to_string());
    let (audit, by_subject) = (txn.open_table(AUDIT)?, txn.open_table(AUDIT_BY_SUBJECT)?);
    for place in by_subject.range((tenant, id.as_str(), 0)..=(tenant, id.as_str(), u64::MAX))?.rev() {
        let number = place?.0.value().2;
        let Some(row) = audit.get((tenant, number))? else { continue };
        let entry: Option<AuditEntry> = read(row.value())?;
        if let Some(entry) = entry.filter(|entry| entry.event.action == AuditAction::KeyGenerated) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Reads a row, or skips one that cannot be read, as every reader does.
fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Storage<Option<T>> {
    skip_unreadable(decode(bytes)).map_err(|error| redb::Error::Corrupted(error.to_string()))
}
