//! Moving everything from one store to another.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Result;
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::domain::changes::Row;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::time::Timestamp;
use crate::domain::usage::{BucketCounts, Resolution, UsageSummary};

/// What a store keeps, except for what concerns running processes alone: leases, the feed, and the numbers of flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    Settings,
    Markers,
    Tenants,
    Operators,
    Sessions,
    Tokens,
    Systems,
    Keys,
    AuditEntries,
    AuditHeads,
    Buckets,
    Usage,
    UsageHours,
    UsageDays,
}

impl RecordKind {
    pub const ALL: [Self; 14] = [
        Self::Settings,
        Self::Markers,
        Self::Tenants,
        Self::Operators,
        Self::Sessions,
        Self::Tokens,
        Self::Systems,
        Self::Keys,
        Self::AuditEntries,
        Self::AuditHeads,
        Self::Buckets,
        Self::Usage,
        Self::UsageHours,
        Self::UsageDays,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Markers => "markers",
            Self::Tenants => "tenants",
            Self::Operators => "operators",
            Self::Sessions => "sessions",
            Self::Tokens => "tokens",
            Self::Systems => "systems",
            Self::Keys => "keys",
            Self::AuditEntries => "audit entries",
            Self::AuditHeads => "audit logs",
            Self::Buckets => "rate limits",
            Self::Usage => "last uses",
            Self::UsageHours => "uses by hour",
            Self::UsageDays => "uses by day",
        }
    }
}

/// One of what a store keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Setting {
        name: String,
        value: String,
    },
    Marker(String),
    Row(Row),
    Entry(AuditEntry),
    Head(TenantId, AuditHead),
    /// A bucket and its theoretical arrival time.
    Bucket(String, Timestamp),
    Usage(TenantId, UsageSummary),
    /// A stored row of a series of use.
    Series {
        tenant: TenantId,
        system: SystemId,
        resolution: Resolution,
        row: u32,
        counts: Vec<BucketCounts>,
    },
}

/// An error ends the stream; only a stream that ends without one is complete.
pub type Records = BoxStream<'static, Result<Record>>;

/// A store that can be moved. Nothing may write to it meanwhile.
#[async_trait]
pub trait TransferStore: Send + Sync {
    async fn count_records(&self, kind: RecordKind) -> Result<u64>;

    /// Returns all records of a kind. Audit entries are ordered by tenant and number.
    ///
    /// # Errors
    ///
    /// The stream ends with [`StoreError::Corrupt`](super::StoreError::Corrupt) at one that cannot be read.
    async fn read_records(&self, kind: RecordKind) -> Result<Records>;

    /// Adds records of one kind to a store that does not have them.
    async fn write_records(&self, kind: RecordKind, records: Vec<Record>) -> Result<()>;
}
