//! Writing rows and their indexes in a transaction.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;

use super::tables::{
    DUE_KEYS, KEYS, LEASES, OPERATORS, OPERATORS_BY_USERNAME, REVOKED_KEYS, SESSIONS, SESSIONS_BY_OPERATOR,
    SYSTEM_COUNTS, SYSTEMS, SYSTEMS_BY_EXTERNAL_ID, TENANTS, TOKENS, TOKENS_BY_DIGEST, TOKENS_BY_NAME, decode, encode,
    encode_in_format, index_of, sort_bytes,
};
use crate::domain::changes::{Row, RowId};
use crate::domain::ids::TenantId;
use crate::domain::systems::{System, SystemOrderField};
use crate::store::{Result, StoreError};

pub(super) type Storage<T> = Result<T, redb::Error>;

/// Returns the row with this id. Systems are looked up within the tenant, other rows across all tenants.
pub(super) fn find(txn: &WriteTransaction, tenant: &TenantId, id: RowId) -> Storage<Option<Row>> {
    Ok(match id {
        RowId::System(id) => get(txn, SYSTEMS, (tenant.as_str(), id.to_string().as_str()))?.map(Row::System),
        RowId::Key(digest) => get(txn, KEYS, digest.as_bytes())?.map(Row::Key),
        RowId::Operator(id) => get(txn, OPERATORS, id.to_string().as_str())?.map(Row::Operator),
        RowId::Session(id) => get(txn, SESSIONS, String::from(id).as_str())?.map(Row::Session),
        RowId::Lease(id) => get(txn, LEASES, id.to_string().as_str())?.map(Row::Lease),
        RowId::Tenant(id) => get(txn, TENANTS, id.as_str())?.map(Row::Tenant),
        RowId::Token(id) => get(txn, TOKENS, id.to_string().as_str())?.map(Row::Token),
    })
}

pub(super) fn get<'k, K: redb::Key + 'static, T: DeserializeOwned>(
    txn: &WriteTransaction,
    table: TableDefinition<K, &[u8]>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Storage<Option<T>> {
    let table = txn.open_table(table)?;
    let row = table.get(key)?;
    row.map(|row| decode(row.value()).map_err(corrupt)).transpose()
}

pub(super) fn put(txn: &WriteTransaction, row: &Row) -> Storage<()> {
    match row {
        Row::System(system) => {
            delete(txn, &system.tenant, row.id())?;
            insert_system(txn, system)
        }
        Row::Key(key) => {
            if let Some(Row::Key(previous)) = find(txn, &key.tenant, row.id())?
                && let Some(due) = previous.due_at()
            {
                txn.open_table(DUE_KEYS)?.remove((due.as_millis(), key.digest.as_bytes()))?;
            }
            let bytes = encode_in_format(key, key.needs_second_format());
            txn.open_table(KEYS)?.insert(key.digest.as_bytes(), bytes.as_slice())?;
            if let Some(due) = key.due_at() {
                txn.open_table(DUE_KEYS)?.insert((due.as_millis(), key.digest.as_bytes()), ())?;
            }
            if let Some(at) = key.revoked_at {
                txn.open_table(REVOKED_KEYS)?.insert((at.as_millis(), key.digest.as_bytes()), ())?;
            }
            Ok(())
        }
        Row::Operator(operator) => {
            let id = operator.id.to_string();
            let bytes = encode_in_format(operator, operator.needs_second_format());
            txn.open_table(OPERATORS)?.insert(id.as_str(), bytes.as_slice())?;
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
        Row::Tenant(tenant) => {
            txn.open_table(TENANTS)?.insert(tenant.id.as_str(), encode(tenant).as_slice())?;
            Ok(())
        }
        Row::Token(token) => {
            delete(txn, &token.tenant, row.id())?;
            let (id, folded) = (token.id.to_string(), token.name.folded());
            let name = (token.tenant.as_str(), token.kind.is_service(), folded.as_str());
            txn.open_table(TOKENS)?.insert(id.as_str(), encode(token).as_slice())?;
            txn.open_table(TOKENS_BY_NAME)?.insert(name, id.as_str())?;
            let mut by_digest = txn.open_table(TOKENS_BY_DIGEST)?;
            for digest in token.digests() {
                by_digest.insert(digest.as_bytes(), id.as_str())?;
            }
            Ok(())
        }
    }
}

/// Adds a system that the file does not have.
pub(super) fn insert_system(txn: &WriteTransaction, system: &System) -> Storage<()> {
    let (tenant, id) = (system.tenant.as_str(), system.id.to_string());
    let bytes = encode_in_format(system, system.needs_second_format());
    txn.open_table(SYSTEMS)?.insert((tenant, id.as_str()), bytes.as_slice())?;
    for field in [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt] {
        let sort = sort_bytes(&field.key_of(system).value);
        let value = if field == SystemOrderField::Name { bytes.as_slice() } else { &[] };
        txn.open_table(index_of(field))?.insert((tenant, sort.as_slice(), id.as_str()), value)?;
    }
    if let Some(external_id) = &system.external_id {
        txn.open_table(SYSTEMS_BY_EXTERNAL_ID)?.insert((tenant, external_id.as_str()), id.as_str())?;
    }
    add_to_count(txn, tenant, 1)
}

/// Removes the tenant's row with this id. Returns whether there was one.
pub(super) fn delete(txn: &WriteTransaction, tenant: &TenantId, id: RowId) -> Storage<bool> {
    match find(txn, tenant, id)? {
        Some(row) if row.tenant() == Some(tenant) => remove(txn, &row).map(|()| true),
        _ => Ok(false),
    }
}

pub(super) fn remove(txn: &WriteTransaction, row: &Row) -> Storage<()> {
    match row {
        Row::System(system) => {
            let (tenant, id) = (system.tenant.as_str(), system.id.to_string());
            txn.open_table(SYSTEMS)?.remove((tenant, id.as_str()))?;
            for field in [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt] {
                let sort = sort_bytes(&field.key_of(system).value);
                txn.open_table(index_of(field))?.remove((tenant, sort.as_slice(), id.as_str()))?;
            }
            if let Some(external_id) = &system.external_id {
                txn.open_table(SYSTEMS_BY_EXTERNAL_ID)?.remove((tenant, external_id.as_str()))?;
            }
            add_to_count(txn, tenant, -1)
        }
        Row::Key(key) => {
            txn.open_table(KEYS)?.remove(key.digest.as_bytes())?;
            if let Some(due) = key.due_at() {
                txn.open_table(DUE_KEYS)?.remove((due.as_millis(), key.digest.as_bytes()))?;
            }
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
        Row::Tenant(tenant) => {
            txn.open_table(TENANTS)?.remove(tenant.id.as_str())?;
            Ok(())
        }
        Row::Token(token) => {
            let folded = token.name.folded();
            let name = (token.tenant.as_str(), token.kind.is_service(), folded.as_str());
            txn.open_table(TOKENS)?.remove(token.id.to_string().as_str())?;
            txn.open_table(TOKENS_BY_NAME)?.remove(name)?;
            let mut by_digest = txn.open_table(TOKENS_BY_DIGEST)?;
            for digest in token.digests() {
                by_digest.remove(digest.as_bytes())?;
            }
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

/// As [`skip_unreadable`](crate::store::errors::skip_unreadable), within a transaction.
pub(super) fn skip_corrupted<T>(row: Storage<T>) -> Storage<Option<T>> {
    match row {
        Err(redb::Error::Corrupted(cause)) => {
            tracing::error!(cause, "unreadable row left out");
            Ok(None)
        }
        row => row.map(Some),
    }
}

/// Converts the error of an unreadable row into one that ends the transaction.
fn corrupt(error: StoreError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}
