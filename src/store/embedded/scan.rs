//! Scans of one snapshot, sent in chunks from a thread that may block.

use async_trait::async_trait;
use redb::{ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{KEYS, OPERATORS, SESSIONS, SYSTEMS, decode, successor};
use crate::domain::changes::Row;
use crate::domain::ids::TenantId;
use crate::domain::systems::{ListedSystem, System};
use crate::store::chunks::{MAX_CHUNKS_AHEAD, stream_of};
use crate::store::{ListedSystems, Result, Rows, ScanStore};

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
    /// Sends every key, operator and session, until the receiver is dropped.
    fn send_rows(&self, chunks: &mpsc::Sender<Vec<Row>>) -> Result<()> {
        self.send_table(KEYS, Row::Key, chunks)?;
        self.send_table(OPERATORS, Row::Operator, chunks)?;
        self.send_table(SESSIONS, Row::Session, chunks)
    }

    fn send_table<K: redb::Key + 'static, T: DeserializeOwned>(
        &self,
        table: TableDefinition<K, &[u8]>,
        row_of: impl Fn(T) -> Row,
        chunks: &mpsc::Sender<Vec<Row>>,
    ) -> Result<()> {
        let table = self.0.open_table(table).map_err(storage)?;
        send(table.iter().map_err(storage)?, row_of, chunks)
    }

    /// Sends the tenant's systems, ordered by id, until the receiver is dropped.
    fn send_systems(&self, tenant: &TenantId, chunks: &mpsc::Sender<Vec<ListedSystem>>) -> Result<()> {
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let (tenant, end) = (tenant.as_str(), successor(tenant.as_str()));
        let rows = systems.range((tenant, "")..(end.as_str(), "")).map_err(storage)?;
        send(rows, |system: System| ListedSystem::from(&system), chunks)
    }
}

/// Decodes, converts and sends the rows, until the receiver is dropped.
fn send<K: redb::Key + 'static, T: DeserializeOwned, S>(
    mut rows: redb::Range<'_, K, &'static [u8]>,
    row_of: impl Fn(T) -> S,
    chunks: &mpsc::Sender<Vec<S>>,
) -> Result<()> {
    loop {
        let chunk = rows.by_ref().take(CHUNK_SIZE);
        let chunk: Vec<_> =
            chunk.map(|row| decode(row.map_err(storage)?.1.value()).map(&row_of)).collect::<Result<_>>()?;
        if chunk.is_empty() || chunks.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
}
