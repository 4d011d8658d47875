//! Committing a batch: conditions first, so that a refused batch has written nothing; then the writes, the audit entry
//! and the change in the feed.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};

use super::changes;
use super::rows::{Storage, delete, find, get, put};
use super::store::EmbeddedStore;
use super::subjects::{add_time, subjects_of};
use super::tables::{
    AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_HEADS, AUDIT_TIMES, MARKERS, OPERATORS, OPERATORS_BY_USERNAME,
    SYSTEM_COUNTS, SYSTEMS_BY_EXTERNAL_ID, SYSTEMS_BY_NAME, TOKENS_BY_NAME, decode, encode, successor,
};
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::changes::{Batch, Expected, Requirement, Row, RowId, Write};
use crate::domain::ids::TenantId;
use crate::domain::operators::Operator;
use crate::domain::systems::System;
use crate::domain::tokens::Token;
use crate::store::{CommitStore, Conflict, Result, StoreError};

#[async_trait]
impl CommitStore for EmbeddedStore {
    async fn commit(&self, batch: Batch) -> Result<AuditEntry> {
        let (kept, handle) = (self.max_feed_changes, Arc::clone(&self.writer.handle));
        self.writer
            .submit(move |txn| {
                let committed = commit(txn, batch, kept)?;
                if let Ok(entry) = &committed {
                    handle.heads.written(entry);
                }
                Ok(committed)
            })
            .await
    }
}

/// Commits the batch inside `txn`. After an inner error, `txn` is unchanged.
fn commit(txn: &WriteTransaction, batch: Batch, max_feed_changes: u64) -> Storage<Result<AuditEntry>> {
    match check(txn, &batch) {
        Ok(Ok(())) => {}
        Ok(Err(conflict)) => return Ok(Err(StoreError::Conflict(conflict))),
        // Nothing was written yet: an unreadable row fails this batch but not the others in the transaction.
        Err(redb::Error::Corrupted(reason)) => return Ok(Err(StoreError::Corrupt(reason.into()))),
        Err(error) => return Err(error),
    }
    let mut writes = Vec::with_capacity(batch.writes.len());
    for (_, write) in batch.writes {
        let written = match &write {
            Write::Put(row) => {
                put(txn, row)?;
                true
            }
            Write::Delete(id) => delete(txn, &batch.tenant, id.clone())?,
        };
        // A deletion that found no row is not reported in the feed.
        writes.extend(written.then_some(write));
    }
    if let Some(marker) = batch.marker {
        txn.open_table(MARKERS)?.insert(marker, ())?;
    }
    let head = audit_head(txn, &batch.tenant)?;
    let entry = AuditEntry::after(&head, batch.tenant, batch.event);
    append_entry(txn, &entry)?;
    changes::append(txn, &writes, Some(&entry), max_feed_changes)?;
    Ok(Ok(entry))
}

fn check(txn: &WriteTransaction, batch: &Batch) -> Storage<Result<(), Conflict>> {
    if let Some(marker) = batch.marker
        && txn.open_table(MARKERS)?.get(marker)?.is_some()
    {
        return Ok(Err(Conflict::Marker));
    }
    let written = batch.writes.iter().map(|(expected, write)| Requirement { row: write.id(), expected: *expected });
    for Requirement { row, expected } in batch.requires.iter().cloned().chain(written) {
        let found = match find(txn, &batch.tenant, row) {
            // A row that cannot be read is there.
            Err(redb::Error::Corrupted(_)) if expected == Expected::Present => continue,
            found => found?,
        };
        let holds = match (expected, found) {
            (Expected::Anything, _) | (Expected::Absent, None) | (Expected::Present, Some(_)) => true,
            (Expected::Revision(revision), Some(row)) => {
                row.tenant() == Some(&batch.tenant) && row.revision() == revision
            }
            (Expected::Absent, Some(_)) | (Expected::Revision(_) | Expected::Present, None) => false,
        };
        if !holds {
            return Ok(Err(Conflict::Row));
        }
    }
    let (mut names, mut external_ids, mut usernames) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut token_names = HashSet::new();
    for (_, write) in &batch.writes {
        let taken = match write {
            Write::Put(row) if row.tenant() != Some(&batch.tenant) => Some(Conflict::Row),
            Write::Put(Row::System(system)) => {
                let external_id = system.external_id.as_ref();
                if name_is_taken(txn, system)? || !names.insert(system.name.folded()) {
                    Some(Conflict::NameTaken)
                } else if external_id_is_taken(txn, system)? || external_id.is_some_and(|id| !external_ids.insert(id)) {
                    Some(Conflict::ExternalIdTaken)
                } else {
                    None
                }
            }
            Write::Put(Row::Operator(operator)) => {
                let taken = username_is_taken(txn, operator)? || !usernames.insert(&operator.username);
                taken.then_some(Conflict::UsernameTaken)
            }
            Write::Put(Row::Token(token)) => {
                let name = (token.kind.is_service(), token.name.folded());
                let taken = token_name_is_taken(txn, token)? || !token_names.insert(name);
                taken.then_some(Conflict::TokenNameTaken)
            }
            Write::Delete(RowId::Tenant(tenant)) if has_systems(txn, tenant)? => Some(Conflict::TenantNotEmpty),
            Write::Delete(RowId::Tenant(tenant)) => leaves_identities(txn, batch, tenant)?.then_some(Conflict::Row),
            _ => None,
        };
        if let Some(conflict) = taken {
            return Ok(Err(conflict));
        }
    }
    Ok(Ok(()))
}

fn name_is_taken(txn: &WriteTransaction, system: &System) -> Storage<bool> {
    let tenant = system.tenant.as_str();
    let folded = system.name.folded();
    let index = txn.open_table(SYSTEMS_BY_NAME)?;
    let after = successor(&folded);
    let id = system.id.to_string();
    for row in index.range((tenant, folded.as_bytes(), "")..(tenant, after.as_bytes(), ""))? {
        if row?.0.value().2 != id {
            return Ok(true);
        }
    }
    Ok(false)
}

fn external_id_is_taken(txn: &WriteTransaction, system: &System) -> Storage<bool> {
    let Some(external_id) = &system.external_id else { return Ok(false) };
    let index = txn.open_table(SYSTEMS_BY_EXTERNAL_ID)?;
    let holder = index.get((system.tenant.as_str(), external_id.as_str()))?;
    Ok(holder.is_some_and(|holder| holder.value() != system.id.to_string()))
}

fn username_is_taken(txn: &WriteTransaction, operator: &Operator) -> Storage<bool> {
    let usernames = txn.open_table(OPERATORS_BY_USERNAME)?;
    let holder = usernames.get(operator.username.as_str())?;
    Ok(holder.is_some_and(|holder| holder.value() != operator.id.to_string()))
}

fn token_name_is_taken(txn: &WriteTransaction, token: &Token) -> Storage<bool> {
    let (names, folded) = (txn.open_table(TOKENS_BY_NAME)?, token.name.folded());
    let holder = names.get((token.tenant.as_str(), token.kind.is_service(), folded.as_str()))?;
    Ok(holder.is_some_and(|holder| holder.value() != token.id.to_string()))
}

fn has_systems(txn: &WriteTransaction, tenant: &TenantId) -> Storage<bool> {
    Ok(txn.open_table(SYSTEM_COUNTS)?.get(tenant.as_str())?.is_some_and(|count| count.value() > 0))
}

/// Whether the tenant has an operator or a token that the batch does not delete.
fn leaves_identities(txn: &WriteTransaction, batch: &Batch, tenant: &TenantId) -> Storage<bool> {
    let is_deleted = |id: RowId| batch.writes.iter().any(|(_, write)| *write == Write::Delete(id.clone()));
    for row in txn.open_table(OPERATORS)?.iter()? {
        // One that cannot be read may be of any tenant, and must not keep all of them.
        let Ok(operator) = decode::<Operator>(row?.1.value()) else { continue };
        if operator.tenant == *tenant && !is_deleted(RowId::Operator(operator.id)) {
            return Ok(true);
        }
    }
    let (tenant, end) = (tenant.as_str(), successor(tenant.as_str()));
    for row in txn.open_table(TOKENS_BY_NAME)?.range((tenant, false, "")..(end.as_str(), false, ""))? {
        if !row?.1.value().parse().is_ok_and(|id| is_deleted(RowId::Token(id))) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn audit_head(txn: &WriteTransaction, tenant: &TenantId) -> Storage<AuditHead> {
    Ok(get(txn, AUDIT_HEADS, tenant.as_str())?.unwrap_or_default())
}

pub(super) fn append_entry(txn: &WriteTransaction, entry: &AuditEntry) -> Storage<()> {
    let tenant = entry.tenant.as_str();
    txn.open_table(AUDIT)?.insert((tenant, entry.number), encode(entry).as_slice())?;
    txn.open_table(AUDIT_BY_ID)?.insert(entry.event.id.to_string().as_str(), (tenant, entry.number))?;
    let mut by_subject = txn.open_table(AUDIT_BY_SUBJECT)?;
    let members = entry.event.filtered_members();
    for subject in subjects_of(&members) {
        by_subject.insert((tenant, subject.as_str(), entry.number), ())?;
    }
    let at = members.occurred_at.as_millis();
    add_time(&mut txn.open_table(AUDIT_TIMES)?, (tenant, entry.number), (at, at))?;
    txn.open_table(AUDIT_HEADS)?.insert(tenant, encode(&entry.head()).as_slice())?;
    Ok(())
}
