//! How a batch is committed: conditions first, so that a refused batch has written nothing; then the writes, the
//! audit entry and the step of the feed.

use std::collections::HashSet;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;

use super::tables::{
    AUDIT, AUDIT_BY_ID, AUDIT_BY_SUBJECT, AUDIT_HEADS, BUCKETS, KEYS, LEASES, MARKERS, OPERATORS,
    OPERATORS_BY_USERNAME, REVOKED_KEYS, SESSIONS, SESSIONS_BY_OPERATOR, SETTINGS, SYSTEM_COUNTS, SYSTEMS,
    SYSTEMS_BY_NAME, decode, encode, index_of, sort_bytes, successor,
};
use super::{changes, corrupt};
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::changes::{Batch, Expected, Requirement, Row, RowId, Write};
use crate::domain::ids::TenantId;
use crate::domain::leases::Lease;
use crate::domain::operators::Operator;
use crate::domain::sessions::Session;
use crate::domain::systems::{System, SystemOrderField};
use crate::domain::time::Timestamp;
use crate::store::{self, Conflict, Purged, Quota, Result, StoreError};

type Storage<T> = Result<T, redb::Error>;

/// Commits the batch inside `txn`. The inner error is a refusal, after which `txn` is as it was.
pub(super) fn commit(txn: &WriteTransaction, batch: Batch, feed_kept: u64) -> Storage<Result<AuditEntry>> {
    match check(txn, &batch) {
        Ok(Ok(())) => {}
        Ok(Err(conflict)) => return Ok(Err(StoreError::Conflict(conflict))),
        // A row that cannot be read is this batch's misfortune alone: nothing was written yet.
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
            Write::Delete(id) => delete(txn, &batch.tenant, *id)?,
        };
        // What was not there was not deleted, and followers are not told that it was.
        writes.extend(written.then_some(write));
    }
    if let Some(marker) = batch.marker {
        txn.open_table(MARKERS)?.insert(marker, ())?;
    }
    let head = audit_head(txn, &batch.tenant)?;
    let entry = AuditEntry::after(&head, batch.tenant, batch.event);
    append_entry(txn, &entry)?;
    changes::append(txn, &writes, Some(&entry), feed_kept)?;
    Ok(Ok(entry))
}

fn check(txn: &WriteTransaction, batch: &Batch) -> Storage<Result<(), Conflict>> {
    if let Some(marker) = batch.marker
        && txn.open_table(MARKERS)?.get(marker)?.is_some()
    {
        return Ok(Err(Conflict::Marker));
    }
    let written = batch.writes.iter().map(|(expected, write)| {
        let row = match write {
            Write::Put(row) => row.id(),
            Write::Delete(id) => *id,
        };
        Requirement { row, expected: *expected }
    });
    for Requirement { row, expected } in batch.requires.iter().copied().chain(written) {
        let found = find(txn, &batch.tenant, row)?;
        let holds = match (expected, found) {
            (Expected::Anything, _) | (Expected::Absent, None) => true,
            (Expected::Revision(revision), Some(row)) => {
                row.tenant() == Some(&batch.tenant) && row.revision() == revision
            }
            (Expected::Absent, Some(_)) | (Expected::Revision(_), None) => false,
        };
        if !holds {
            return Ok(Err(Conflict::Row));
        }
    }
    let (mut names, mut usernames) = (HashSet::new(), HashSet::new());
    for (_, write) in &batch.writes {
        let taken = match write {
            Write::Put(row) if row.tenant() != Some(&batch.tenant) => Some(Conflict::Row),
            Write::Put(Row::System(system)) => {
                let taken = name_is_taken(txn, system)? || !names.insert(system.name.folded());
                taken.then_some(Conflict::NameTaken)
            }
            Write::Put(Row::Operator(operator)) => {
                let taken = username_is_taken(txn, operator)? || !usernames.insert(&operator.username);
                taken.then_some(Conflict::UsernameTaken)
            }
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

fn username_is_taken(txn: &WriteTransaction, operator: &Operator) -> Storage<bool> {
    let usernames = txn.open_table(OPERATORS_BY_USERNAME)?;
    let holder = usernames.get(operator.username.as_str())?;
    Ok(holder.is_some_and(|holder| holder.value() != operator.id.to_string()))
}

/// The row of this id: a system of the tenant, anything else of whatever tenant.
fn find(txn: &WriteTransaction, tenant: &TenantId, id: RowId) -> Storage<Option<Row>> {
    Ok(match id {
        RowId::System(id) => get(txn, SYSTEMS, (tenant.as_str(), id.to_string().as_str()))?.map(Row::System),
        RowId::Key(digest) => get(txn, KEYS, digest.as_bytes())?.map(Row::Key),
        RowId::Operator(id) => get(txn, OPERATORS, id.to_string().as_str())?.map(Row::Operator),
        RowId::Session(id) => get(txn, SESSIONS, String::from(id).as_str())?.map(Row::Session),
        RowId::Lease(id) => get(txn, LEASES, id.to_string().as_str())?.map(Row::Lease),
    })
}

fn get<'k, K: redb::Key + 'static, T: DeserializeOwned>(
    txn: &WriteTransaction,
    table: TableDefinition<K, &[u8]>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Storage<Option<T>> {
    let table = txn.open_table(table)?;
    let row = table.get(key)?;
    row.map(|row| decode(row.value()).map_err(corrupt)).transpose()
}

fn put(txn: &WriteTransaction, row: &Row) -> Storage<()> {
    match row {
        Row::System(system) => {
            delete(txn, &system.tenant, row.id())?;
            insert_system(txn, system)
        }
        Row::Key(key) => {
            txn.open_table(KEYS)?.insert(key.digest.as_bytes(), encode(key).as_slice())?;
            if let Some(at) = key.revoked_at {
                txn.open_table(REVOKED_KEYS)?.insert((at.as_millis(), key.digest.as_bytes()), ())?;
            }
            Ok(())
        }
        Row::Operator(operator) => {
            let id = operator.id.to_string();
            txn.open_table(OPERATORS)?.insert(id.as_str(), encode(operator).as_slice())?;
            txn.open_table(OPERATORS_BY_USERNAME)?.insert(operator.username.as_str(), id.as_str())?;
            Ok(())
        }
        Row::Session(session) => {
            let id = String::from(session.id);
            txn.open_table(SESSIONS)?.insert(id.as_str(), encode(session).as_slice())?;
            let operator = session.operator.to_string();
            txn.open_table(SESSIONS_BY_OPERATOR)?.insert((operator.as_str(), id.as_str()), ())?;
            Ok(())
        }
        Row::Lease(lease) => {
            txn.open_table(LEASES)?.insert(lease.incarnation.to_string().as_str(), encode(lease).as_slice())?;
            Ok(())
        }
    }
}

fn insert_system(txn: &WriteTransaction, system: &System) -> Storage<()> {
    let (tenant, id) = (system.tenant.as_str(), system.id.to_string());
    let bytes = encode(system);
    txn.open_table(SYSTEMS)?.insert((tenant, id.as_str()), bytes.as_slice())?;
    for field in [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt] {
        let sort = sort_bytes(&field.key_of(system).value);
        let value = if field == SystemOrderField::Name { bytes.as_slice() } else { &[] };
        txn.open_table(index_of(field))?.insert((tenant, sort.as_slice(), id.as_str()), value)?;
    }
    add_to_count(txn, tenant, 1)
}

/// Removes the tenant's row of this id, and says whether there was one.
fn delete(txn: &WriteTransaction, tenant: &TenantId, id: RowId) -> Storage<bool> {
    match find(txn, tenant, id)? {
        Some(row) if row.tenant() == Some(tenant) => remove(txn, &row).map(|()| true),
        _ => Ok(false),
    }
}

fn remove(txn: &WriteTransaction, row: &Row) -> Storage<()> {
    match row {
        Row::System(system) => {
            let (tenant, id) = (system.tenant.as_str(), system.id.to_string());
            txn.open_table(SYSTEMS)?.remove((tenant, id.as_str()))?;
            for field in [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt] {
                let sort = sort_bytes(&field.key_of(system).value);
                txn.open_table(index_of(field))?.remove((tenant, sort.as_slice(), id.as_str()))?;
            }
            add_to_count(txn, tenant, -1)
        }
        Row::Key(key) => {
            txn.open_table(KEYS)?.remove(key.digest.as_bytes())?;
            if let Some(at) = key.revoked_at {
                txn.open_table(REVOKED_KEYS)?.remove((at.as_millis(), key.digest.as_bytes()))?;
            }
            Ok(())
        }
        Row::Operator(operator) => {
            txn.open_table(OPERATORS)?.remove(operator.id.to_string().as_str())?;
            txn.open_table(OPERATORS_BY_USERNAME)?.remove(operator.username.as_str())?;
            Ok(())
        }
        Row::Session(session) => {
            let (operator, id) = (session.operator.to_string(), String::from(session.id));
            txn.open_table(SESSIONS)?.remove(id.as_str())?;
            txn.open_table(SESSIONS_BY_OPERATOR)?.remove((operator.as_str(), id.as_str()))?;
            Ok(())
        }
        Row::Lease(lease) => {
            txn.open_table(LEASES)?.remove(lease.incarnation.to_string().as_str())?;
            Ok(())
        }
    }
}

fn add_to_count(txn: &WriteTransaction, tenant: &str, step: i64) -> Storage<()> {
    let mut counts = txn.open_table(SYSTEM_COUNTS)?;
    let count = counts.get(tenant)?.map_or(0, |count| count.value());
    counts.insert(tenant, count.saturating_add_signed(step))?;
    Ok(())
}

fn audit_head(txn: &WriteTransaction, tenant: &TenantId) -> Storage<AuditHead> {
    Ok(get(txn, AUDIT_HEADS, tenant.as_str())?.unwrap_or_default())
}

fn append_entry(txn: &WriteTransaction, entry: &AuditEntry) -> Storage<()> {
    let tenant = entry.tenant.as_str();
    txn.open_table(AUDIT)?.insert((tenant, entry.number), encode(entry).as_slice())?;
    txn.open_table(AUDIT_BY_ID)?.insert(entry.event.id.to_string().as_str(), (tenant, entry.number))?;
    let mut by_subject = txn.open_table(AUDIT_BY_SUBJECT)?;
    let system = entry.event.system.map(|id| id.to_string());
    let actor = entry.event.actor.id.map(|id| id.to_string());
    for subject in system.iter().chain(&actor) {
        by_subject.insert((tenant, subject.as_str(), entry.number), ())?;
    }
    txn.open_table(AUDIT_HEADS)?.insert(tenant, encode(&entry.head()).as_slice())?;
    Ok(())
}

pub(super) fn put_lease(txn: &WriteTransaction, lease: Lease, feed_kept: u64) -> Storage<()> {
    let row = Row::Lease(lease);
    put(txn, &row)?;
    changes::append(txn, &[Write::Put(row)], None, feed_kept)
}

/// Removes the lease if it has this sequence still, and says whether it did.
pub(super) fn delete_lease(txn: &WriteTransaction, lease: Lease, feed_kept: u64) -> Storage<bool> {
    let id = lease.incarnation.to_string();
    let found: Option<Lease> = get(txn, LEASES, id.as_str())?;
    let as_expected = found.is_some_and(|found| found.sequence == lease.sequence);
    if as_expected {
        let row = Row::Lease(lease);
        remove(txn, &row)?;
        changes::append(txn, &[Write::Delete(row.id())], None, feed_kept)?;
    }
    Ok(as_expected)
}

pub(super) fn take_token(
    txn: &WriteTransaction,
    bucket: &str,
    quota: Quota,
    now: Timestamp,
) -> Storage<Result<(), std::time::Duration>> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let arrival = buckets.get(bucket)?.map_or(Timestamp::default(), |at| Timestamp::from_millis(at.value()));
    Ok(match store::take(arrival, quota, now) {
        Ok(next) => {
            buckets.insert(bucket, next.as_millis())?;
            Ok(())
        }
        Err(wait) => Err(wait),
    })
}

pub(super) fn return_token(txn: &WriteTransaction, bucket: &str, quota: Quota) -> Storage<()> {
    let mut buckets = txn.open_table(BUCKETS)?;
    let arrival = buckets.get(bucket)?.map(|at| Timestamp::from_millis(at.value()));
    if let Some(arrival) = arrival {
        buckets.insert(bucket, arrival.minus(quota.every).as_millis())?;
    }
    Ok(())
}

pub(super) fn replace_setting(
    txn: &WriteTransaction,
    name: &str,
    expected: Option<&str>,
    value: &str,
) -> Storage<bool> {
    let mut settings = txn.open_table(SETTINGS)?;
    let as_expected = settings.get(name)?.as_ref().map(|found| found.value()) == expected;
    if as_expected {
        settings.insert(name, value)?;
    }
    Ok(as_expected)
}

pub(super) fn purge(
    txn: &WriteTransaction,
    now: Timestamp,
    revoked_before: Timestamp,
    feed_kept: u64,
) -> Storage<Purged> {
    let mut gone = Vec::new();
    let mut purged = Purged::default();
    for row in txn.open_table(REVOKED_KEYS)?.range(..(revoked_before.as_millis(), &[0; 32]))? {
        gone.extend(get(txn, KEYS, row?.0.value().1)?.map(Row::Key));
        purged.keys += 1;
    }
    for row in txn.open_table(SESSIONS)?.iter()? {
        match decode::<Session>(row?.1.value()) {
            Ok(session) if session.expires_at < now => {
                gone.push(Row::Session(session));
                purged.sessions += 1;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a session cannot be read, and is left where it is"),
        }
    }
    for row in &gone {
        remove(txn, row)?;
    }
    // A bucket whose arrival time has passed is full, as one that was never used is.
    txn.open_table(BUCKETS)?.retain(|_, arrival| arrival > now.as_millis())?;
    if !gone.is_empty() {
        let writes: Vec<Write> = gone.iter().map(|row| Write::Delete(row.id())).collect();
        changes::append(txn, &writes, None, feed_kept)?;
    }
    Ok(purged)
}
