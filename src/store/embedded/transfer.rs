//! Reading and writing everything, for moves between stores.

use async_trait::async_trait;
use redb::{Key, ReadableTableMetadata, TableDefinition, Value, WriteTransaction};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::commit::append_entry;
use super::errors::storage;
use super::rows::{Storage, insert_system, put};
use super::scan::send;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{
    AUDIT, AUDIT_HEADS, BUCKETS, KEYS, MARKERS, OPERATORS, SESSIONS, SETTINGS, SYSTEMS, TENANTS, TOKENS, USAGE,
    USAGE_BY_WRITE, USAGE_DAYS, USAGE_HOURS, decode, encode,
};
use super::usage::{StoredSummary, series_of, series_row, stored_series};
use crate::domain::changes::Row;
use crate::domain::time::Timestamp;
use crate::domain::usage::Resolution;
use crate::store::chunks::{MAX_CHUNKS_AHEAD, stream_of};
use crate::store::{Record, RecordKind, Records, Result, StoreError, TransferStore};

#[async_trait]
impl TransferStore for EmbeddedStore {
    async fn count_records(&self, kind: RecordKind) -> Result<u64> {
        self.read(|snapshot| match kind {
            RecordKind::Settings => snapshot.len(SETTINGS),
            RecordKind::Markers => snapshot.len(MARKERS),
            RecordKind::Tenants => snapshot.len(TENANTS),
            RecordKind::Operators => snapshot.len(OPERATORS),
            RecordKind::Sessions => snapshot.len(SESSIONS),
            RecordKind::Tokens => snapshot.len(TOKENS),
            RecordKind::Systems => snapshot.len(SYSTEMS),
            RecordKind::Keys => snapshot.len(KEYS),
            RecordKind::AuditEntries => snapshot.len(AUDIT),
            RecordKind::AuditHeads => snapshot.len(AUDIT_HEADS),
            RecordKind::Buckets => snapshot.len(BUCKETS),
            RecordKind::Usage => snapshot.len(USAGE),
            RecordKind::UsageHours => snapshot.len(USAGE_HOURS),
            RecordKind::UsageDays => snapshot.len(USAGE_DAYS),
        })
    }

    async fn read_records(&self, kind: RecordKind) -> Result<Records> {
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let (sender, chunks) = mpsc::channel(MAX_CHUNKS_AHEAD);
        Ok(stream_of(chunks, tokio::task::spawn_blocking(move || snapshot.send_records(kind, &sender))))
    }

    async fn write_records(&self, _: RecordKind, records: Vec<Record>) -> Result<()> {
        self.writer.submit(move |txn| records.into_iter().try_for_each(|record| add(txn, record)).map(Ok)).await
    }
}

impl Snapshot {
    pub(super) fn len<K: Key + 'static, V: Value + 'static>(&self, table: TableDefinition<'_, K, V>) -> Result<u64> {
        self.0.open_table(table).map_err(storage)?.len().map_err(storage)
    }

    fn send_records(&self, kind: RecordKind, chunks: &mpsc::Sender<Vec<Record>>) -> Result<()> {
        match kind {
            RecordKind::Settings => self.send_table(SETTINGS, chunks, |name, value| {
                Ok(Record::Setting { name: name.to_owned(), value: value.to_owned() })
            }),
            RecordKind::Markers => self.send_table(MARKERS, chunks, |marker, ()| Ok(Record::Marker(marker.to_owned()))),
            RecordKind::Tenants => self.send_table(TENANTS, chunks, |_, row| row_of(row, Row::Tenant)),
            RecordKind::Operators => self.send_table(OPERATORS, chunks, |_, row| row_of(row, Row::Operator)),
            RecordKind::Sessions => self.send_table(SESSIONS, chunks, |_, row| row_of(row, Row::Session)),
            RecordKind::Tokens => self.send_table(TOKENS, chunks, |_, row| row_of(row, Row::Token)),
            RecordKind::Systems => self.send_table(SYSTEMS, chunks, |_, row| row_of(row, Row::System)),
            RecordKind::Keys => self.send_table(KEYS, chunks, |_, row| row_of(row, Row::Key)),
            RecordKind::AuditEntries => self.send_table(AUDIT, chunks, |_, row| decode(row).map(Record::Entry)),
            RecordKind::AuditHeads => {
                self.send_table(AUDIT_HEADS, chunks, |tenant, head| Ok(Record::Head(id(tenant)?, decode(head)?)))
            }
            RecordKind::Buckets => self.send_table(BUCKETS, chunks, |bucket, arrival| {
                Ok(Record::Bucket(bucket.to_owned(), Timestamp::from_millis(arrival)))
            }),
            RecordKind::Usage => self.send_table(USAGE, chunks, |(tenant, system), summary| {
                let summary: StoredSummary = decode(summary)?;
                Ok(Record::Usage(id(tenant)?, summary.summary_of(id(system)?)))
            }),
            RecordKind::UsageHours => self.send_series(Resolution::Hour, chunks),
            RecordKind::UsageDays => self.send_series(Resolution::Day, chunks),
        }
    }

    fn send_series(&self, resolution: Resolution, chunks: &mpsc::Sender<Vec<Record>>) -> Result<()> {
        self.send_table(series_of(resolution), chunks, |(row, tenant, system), series| {
            let counts = series_row(decode(series)?).collect();
            Ok(Record::Series { tenant: id(tenant)?, system: id(system)?, resolution, row, counts })
        })
    }

    fn send_table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
        chunks: &mpsc::Sender<Vec<Record>>,
        read: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Result<Record>,
    ) -> Result<()> {
        let table = self.0.open_table(table).map_err(storage)?;
        let rows = table.range::<K::SelfType<'_>>(..).map_err(storage)?;
        send(rows, |key, value| read(key, value).map(Some), chunks)
    }
}

fn row_of<T: DeserializeOwned>(bytes: &[u8], row: impl Fn(T) -> Row) -> Result<Record> {
    decode(bytes).map(|value| Record::Row(row(value)))
}

fn id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("a row with the malformed id {text:?}").into()))
}

fn add(txn: &WriteTransaction, record: Record) -> Storage<()> {
    match record {
        Record::Setting { name, value } => {
            txn.open_table(SETTINGS)?.insert(name.as_str(), value.as_str())?;
        }
        Record::Marker(marker) => {
            txn.open_table(MARKERS)?.insert(marker.as_str(), ())?;
        }
        Record::Row(Row::System(system)) => insert_system(txn, &system)?,
        Record::Row(row) => put(txn, &row)?,
        Record::Entry(entry) => append_entry(txn, &entry)?,
        Record::Head(tenant, head) => {
            txn.open_table(AUDIT_HEADS)?.insert(tenant.as_str(), encode(&head).as_slice())?;
        }
        Record::Bucket(bucket, arrival) => {
            txn.open_table(BUCKETS)?.insert(bucket.as_str(), arrival.as_millis())?;
        }
        Record::Usage(tenant, summary) => {
            let (tenant, system, at) = (tenant.as_str(), summary.system.to_string(), summary.written_at.as_millis());
            txn.open_table(USAGE)?
                .insert((tenant, system.as_str()), encode(&StoredSummary::from(summary)).as_slice())?;
            txn.open_table(USAGE_BY_WRITE)?.insert((tenant, at, system.as_str()), ())?;
        }
        Record::Series { tenant, system, resolution, row, counts } => {
            let (system, series) = (system.to_string(), encode(&stored_series(&counts)));
            txn.open_table(series_of(resolution))?
                .insert((row, tenant.as_str(), system.as_str()), series.as_slice())?;
        }
    }
    Ok(())
}
