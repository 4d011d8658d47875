//! Scans of one snapshot, sent in chunks from a thread that may block.

use async_trait::async_trait;
use redb::ReadableTable;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{KEYS, OPERATORS, SESSIONS, SYSTEMS, TENANTS, TOKENS, decode, successor};
use crate::domain::changes::{Row, RowId, StoredRow};
use crate::domain::ids::TenantId;
use crate::domain::keys::KeyDigest;
use crate::domain::sessions::SessionId;
use crate::domain::system_lists::ListedSystem;
use crate::domain::systems::System;
use crate::store::chunks::{MAX_CHUNKS_AHEAD, stream_of};
use crate::store::errors::skip_unreadable;
use crate::store::{ListedSystems, Result, Rows, ScanStore, StoreError};

/// Number of rows that are sent together.
const CHUNK_SIZE: usize = 1024;

#[async_trait]
impl ScanStore for EmbeddedStore {
    async fn scan_rows(&self) -> Result<Rows> {
        // The scan holds a snapshot but not the handle, so a failing commit can close the file meanwhile.
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let (sender, chunks) = mpsc::channel(MAX_CHUNKS_AHEAD);
        Ok(stream_of(chunks, tokio::task::spawn_blocking(move || snapshot.send_rows(&sender))))
    }

    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let number = snapshot.audit_head(tenant)?.number;
        let tenant = tenant.clone();
        let (sender, chunks) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let scan = tokio::task::spawn_blocking(move || snapshot.send_systems(&tenant, &sender));
        Ok((number, stream_of(chunks, scan)))
    }
}

impl Snapshot {
    /// Sends every key, operator, session, tenant and token, until the receiver is dropped.
    fn send_rows(&self, chunks: &mpsc::Sender<Vec<StoredRow>>) -> Result<()> {
        let key_id = |digest: &[u8; 32]| Some(RowId::Key(KeyDigest::from_bytes(*digest)));
        let keys = self.0.open_table(KEYS).map_err(storage)?;
        send(keys.iter().map_err(storage)?, |id, row| stored_row(key_id(id), row, Row::Key), chunks)?;
        let operators = self.0.open_table(OPERATORS).map_err(storage)?;
        let operator_id = |id: &str| id.parse().ok().map(RowId::Operator);
        send(operators.iter().map_err(storage)?, |id, row| stored_row(operator_id(id), row, Row::Operator), chunks)?;
        let sessions = self.0.open_table(SESSIONS).map_err(storage)?;
        let session_id = |id: &str| SessionId::try_from(id.to_owned()).ok().map(RowId::Session);
        send(sessions.iter().map_err(storage)?, |id, row| stored_row(session_id(id), row, Row::Session), chunks)?;
        let tenants = self.0.open_table(TENANTS).map_err(storage)?;
        let tenant_id = |id: &str| id.parse().ok().map(RowId::Tenant);
        send(tenants.iter().map_err(storage)?, |id, row| stored_row(tenant_id(id), row, Row::Tenant), chunks)?;
        let tokens = self.0.open_table(TOKENS).map_err(storage)?;
        let token_id = |id: &str| id.parse().ok().map(RowId::Token);
        send(tokens.iter().map_err(storage)?, |id, row| stored_row(token_id(id), row, Row::Token), chunks)
    }

    /// Sends the tenant's systems, ordered by id, until the receiver is dropped.
    fn send_systems(&self, tenant: &TenantId, chunks: &mpsc::Sender<Vec<ListedSystem>>) -> Result<()> {
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let (tenant, end) = (tenant.as_str(), successor(tenant.as_str()));
        let rows = systems.range((tenant, "")..(end.as_str(), "")).map_err(storage)?;
        send(rows, |_, row| skip_unreadable(decode::<System>(row).map(|system| ListedSystem::from(&system))), chunks)
    }
}

/// Decodes a row. `None` if neither the row nor its id can be read: nothing refers to it.
fn stored_row<T: DeserializeOwned>(
    id: Option<RowId>,
    bytes: &[u8],
    row_of: impl Fn(T) -> Row,
) -> Result<Option<StoredRow>> {
    match decode(bytes) {
        Ok(row) => Ok(Some(StoredRow::Readable(row_of(row)))),
        Err(StoreError::Corrupt(cause)) => {
            tracing::error!(?id, %cause, "unreadable row");
            Ok(id.map(StoredRow::Unreadable))
        }
        Err(error) => Err(error),
    }
}

/// Converts and sends the rows, until the receiver is dropped.
pub(super) fn send<K: redb::Key + 'static, V: redb::Value + 'static, S>(
    mut rows: redb::Range<'_, K, V>,
    convert: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Result<Option<S>>,
    chunks: &mpsc::Sender<Vec<S>>,
) -> Result<()> {
    loop {
        let chunk: Vec<_> = rows.by_ref().take(CHUNK_SIZE).collect::<Result<_, _>>().map_err(storage)?;
        if chunk.is_empty() {
            return Ok(());
        }
        let converted = chunk.iter().filter_map(|(id, row)| convert(id.value(), row.value()).transpose());
        if chunks.blocking_send(converted.collect::<Result<_>>()?).is_err() {
            return Ok(());
        }
    }
}
