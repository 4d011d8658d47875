//! The tables of the file, and the encoding of their keys and rows.

use std::ops::Bound;

use redb::{Key, ReadableDatabase, TableDefinition, TableHandle, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::systems::{SortValue, SystemOrderField, SystemSortKey};
use crate::domain::time::Timestamp;
use crate::store::{Result, StoreError};

/// (tenant, id) → system.
pub(super) const SYSTEMS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("systems");
/// (tenant, folded name, id) → system: serves the default order without look-ups, and keeps names unique.
pub(super) const SYSTEMS_BY_NAME: SystemIndex = TableDefinition::new("systems_by_name");
/// (tenant, time, id) → nothing.
pub(super) const SYSTEMS_BY_UPDATE: SystemIndex = TableDefinition::new("systems_by_update");
/// (tenant, time, id) → nothing.
pub(super) const SYSTEMS_BY_CREATION: SystemIndex = TableDefinition::new("systems_by_creation");
/// (tenant, external id) → id of the system.
pub(super) const SYSTEMS_BY_EXTERNAL_ID: TableDefinition<(&str, &str), &str> =
    TableDefinition::new("systems_by_external_id");
/// tenant → number of systems.
pub(super) const SYSTEM_COUNTS: TableDefinition<&str, u64> = TableDefinition::new("system_counts");
/// digest → key.
pub(super) const KEYS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("keys");
/// (time of revocation, digest) → nothing.
pub(super) const REVOKED_KEYS: TableDefinition<(i64, &[u8; 32]), ()> = TableDefinition::new("revoked_keys");
/// (time at which an entry about its expiry is due, digest) → nothing.
pub(super) const DUE_KEYS: TableDefinition<(i64, &[u8; 32]), ()> = TableDefinition::new("due_keys");
/// id → operator.
pub(super) const OPERATORS: TableDefinition<&str, &[u8]> = TableDefinition::new("operators");
/// username → id.
pub(super) const OPERATORS_BY_USERNAME: TableDefinition<&str, &str> = TableDefinition::new("operators_by_username");
/// id → session.
pub(super) const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");
/// (operator, id) → nothing.
pub(super) const SESSIONS_BY_OPERATOR: TableDefinition<(&str, &str), ()> = TableDefinition::new("sessions_by_operator");
/// tenant → its row.
pub(super) const TENANTS: TableDefinition<&str, &[u8]> = TableDefinition::new("tenants");
/// id → token.
pub(super) const TOKENS: TableDefinition<&str, &[u8]> = TableDefinition::new("tokens");
/// digest of a secret → id of its token.
pub(super) const TOKENS_BY_DIGEST: TableDefinition<&[u8; 32], &str> = TableDefinition::new("tokens_by_digest");
/// (tenant, whether it is a service token, folded name) → id.
pub(super) const TOKENS_BY_NAME: TableDefinition<(&str, bool, &str), &str> = TableDefinition::new("tokens_by_name");
/// (tenant, number) → audit entry.
pub(super) const AUDIT: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("audit");
/// id → (tenant, number).
pub(super) const AUDIT_BY_ID: TableDefinition<&str, (&str, u64)> = TableDefinition::new("audit_by_id");
/// (tenant, subject, number) → nothing. See [`Subject`](super::subjects::Subject).
pub(super) const AUDIT_BY_SUBJECT: TableDefinition<(&str, &str, u64), ()> = TableDefinition::new("audit_by_subject");
/// (tenant, number / [`ENTRIES_PER_BLOCK`]) → the first and the last time at which an entry of the block occurred.
pub(super) const AUDIT_TIMES: TableDefinition<(&str, u64), (i64, i64)> = TableDefinition::new("audit_times");
/// tenant → head of its audit log.
pub(super) const AUDIT_HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("audit_heads");
/// sequence → committed change.
pub(super) const FEED: TableDefinition<u64, &[u8]> = TableDefinition::new("feed");
/// incarnation → lease.
pub(super) const LEASES: TableDefinition<&str, &[u8]> = TableDefinition::new("leases");
/// bucket → theoretical arrival time, in milliseconds since the Unix epoch.
pub(super) const BUCKETS: TableDefinition<&str, i64> = TableDefinition::new("buckets");
/// name → value.
pub(super) const SETTINGS: TableDefinition<&str, &str> = TableDefinition::new("settings");
/// marker → nothing.
pub(super) const MARKERS: TableDefinition<&str, ()> = TableDefinition::new("markers");

/// (tenant, system) → when its keys were last presented.
pub(super) const USAGE: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("usage");
/// (tenant, time of the last flush about it, system) → nothing.
pub(super) const USAGE_BY_WRITE: TableDefinition<(&str, i64, &str), ()> = TableDefinition::new("usage_by_write");
/// (day, tenant, system) → use of its keys, by hour.
pub(super) const USAGE_HOURS: UsageSeries = TableDefinition::new("usage_hours");
/// (month, tenant, system) → use of its keys, by day.
pub(super) const USAGE_DAYS: UsageSeries = TableDefinition::new("usage_days");
/// instance → number and time of its last flush.
pub(super) const USAGE_FLUSHES: TableDefinition<&str, (u64, i64)> = TableDefinition::new("usage_flushes");

/// Use by bucket: (day or month, tenant, system).
pub(super) type UsageSeries = TableDefinition<'static, (u32, &'static str, &'static str), &'static [u8]>;

/// An index of systems: (tenant, sort value, id).
pub(super) type SystemIndex = TableDefinition<'static, (&'static str, &'static [u8], &'static str), &'static [u8]>;

/// Entries whose times have one row in [`AUDIT_TIMES`].
pub(super) const ENTRIES_PER_BLOCK: u64 = 1024;

/// The newest format of rows that this release knows.
const KNOWN_FORMAT: u8 = 2;
/// The last number before the white space that JSON allows.
const MAX_FORMAT: u8 = 8;

/// Does something with each table of the file.
pub(super) trait TableVisitor {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), redb::Error>;
}

/// Visits all tables. The newest one comes last.
pub(super) fn visit_all(visitor: &mut impl TableVisitor) -> Result<(), redb::Error> {
    visitor.visit(SYSTEMS)?;
    visitor.visit(SYSTEMS_BY_NAME)?;
    visitor.visit(SYSTEMS_BY_UPDATE)?;
    visitor.visit(SYSTEMS_BY_CREATION)?;
    visitor.visit(SYSTEM_COUNTS)?;
    visitor.visit(KEYS)?;
    visitor.visit(REVOKED_KEYS)?;
    visitor.visit(DUE_KEYS)?;
    visitor.visit(OPERATORS)?;
    visitor.visit(OPERATORS_BY_USERNAME)?;
    visitor.visit(SESSIONS)?;
    visitor.visit(SESSIONS_BY_OPERATOR)?;
    visitor.visit(TENANTS)?;
    visitor.visit(TOKENS)?;
    visitor.visit(TOKENS_BY_DIGEST)?;
    visitor.visit(TOKENS_BY_NAME)?;
    visitor.visit(AUDIT)?;
    visitor.visit(AUDIT_BY_ID)?;
    visitor.visit(AUDIT_BY_SUBJECT)?;
    visitor.visit(AUDIT_HEADS)?;
    visitor.visit(FEED)?;
    visitor.visit(LEASES)?;
    visitor.visit(BUCKETS)?;
    visitor.visit(SETTINGS)?;
    visitor.visit(MARKERS)?;
    visitor.visit(USAGE)?;
    visitor.visit(USAGE_BY_WRITE)?;
    visitor.visit(USAGE_HOURS)?;
    visitor.visit(USAGE_DAYS)?;
    visitor.visit(USAGE_FLUSHES)?;
    visitor.visit(SYSTEMS_BY_EXTERNAL_ID)?;
    visitor.visit(AUDIT_TIMES)
}

/// Creates missing tables, so that later transactions find them.
pub(super) fn create_all(db: &redb::Database) -> Result<(), redb::Error> {
    struct Create<'a>(&'a redb::WriteTransaction);

    impl TableVisitor for Create<'_> {
        fn visit<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<(), redb::Error> {
            self.0.open_table(table)?;
            Ok(())
        }
    }

    let mut txn = db.begin_write()?;
    txn.set_two_phase_commit(true);
    visit_all(&mut Create(&txn))?;
    txn.commit()?;
    Ok(())
}

/// Whether the current [`create_all`] has run on this file: the newest table exists.
pub(super) fn are_created(db: &redb::Database) -> Result<bool, redb::Error> {
    Ok(db.begin_read()?.list_tables()?.any(|table| table.name() == AUDIT_TIMES.name()))
}

pub(super) fn encode(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have only string keys and plain values")
}

/// Encodes a row that may need the second format.
pub(super) fn encode_in_format(row: &impl Serialize, needs_second: bool) -> Vec<u8> {
    let mut bytes = encode(row);
    if needs_second {
        bytes.insert(0, 2);
    }
    bytes
}

/// The inverse of [`encode`]. A row of another format than the first is preceded by a byte with the number of its format,
/// which no JSON text begins with; see "Changes of stored formats" in `docs/decisions.md`.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let json = match bytes.split_first() {
        Some((2, json)) => json,
        Some((&format @ ..=MAX_FORMAT, _)) if format > KNOWN_FORMAT => {
            return Err(StoreError::NewerFormat { found: i64::from(format), known: i64::from(KNOWN_FORMAT) });
        }
        _ => bytes,
    };
    serde_json::from_slice(json).map_err(|error| StoreError::Corrupt(error.into()))
}

/// Whether the row is in the first format, which has no member that release 0.1 does not know.
pub(super) fn is_first_format(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first > MAX_FORMAT)
}

/// Bytes with the same order as `value`.
pub(super) fn sort_bytes(value: &SortValue) -> Vec<u8> {
    match value {
        SortValue::Name(folded) => folded.as_bytes().to_vec(),
        SortValue::At(at) => time_bytes(*at).to_vec(),
        // No field of an index has it.
        SortValue::Absent => Vec::new(),
    }
}

/// Big-endian with the sign bit flipped, so that earlier times sort first.
fn time_bytes(at: Timestamp) -> [u8; 8] {
    (at.as_millis() ^ i64::MIN).to_be_bytes()
}

pub(super) fn index_of(field: SystemOrderField) -> SystemIndex {
    match field {
        SystemOrderField::Name => SYSTEMS_BY_NAME,
        SystemOrderField::UpdatedAt => SYSTEMS_BY_UPDATE,
        SystemOrderField::CreatedAt => SYSTEMS_BY_CREATION,
    }
}

/// The owned key of a bound in a [`SystemIndex`].
pub(super) struct IndexKey {
    sort: Vec<u8>,
    id: String,
}

impl IndexKey {
    pub(super) fn of(key: &SystemSortKey) -> Self {
        Self { sort: sort_bytes(&key.value), id: key.id.to_string() }
    }

    pub(super) fn key<'a>(&'a self, tenant: &'a str) -> (&'a str, &'a [u8], &'a str) {
        (tenant, &self.sort, &self.id)
    }
}

/// The string that immediately follows `text` in byte order: `text` with a zero byte appended.
pub(super) fn successor(text: &str) -> String {
    format!("{text}\0")
}

/// An exclusive bound at `place`, or `edge` without one.
pub(super) fn bound<T>(place: Option<T>, edge: Bound<T>) -> Bound<T> {
    place.map_or(edge, Bound::Excluded)
}
