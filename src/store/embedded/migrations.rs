//! Bringing the file of an earlier release up to date.

use redb::{Database, ReadableTable};

use super::rows::{Storage, put};
use super::tables::{AUDIT, AUDIT_BY_SUBJECT, SYSTEMS, decode};
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::changes::Row;
use crate::domain::systems::System;
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
