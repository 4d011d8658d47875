//! Use of keys. It is in no row of a system or key, in no audit entry, and not in the feed.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::time::Timestamp;
use crate::domain::usage::{BucketCounts, Flush, UsageRange, UsageRetention, UsageSummary};

/// Rows that one use writes: the summary of its system, the hours of a day and the days of a month.
pub const ROWS_PER_USE: usize = 3;

#[async_trait]
pub trait UsageStore {
    /// Adds all uses of the flush, or none if it fails.
    ///
    /// A flush is added once: a second call with its instance and number, or with a smaller number, changes nothing. So
    /// a caller repeats one that failed until it succeeds, before it adds the next.
    ///
    /// # Errors
    ///
    /// If a call fails, it is unknown whether the flush was added.
    async fn add_usage(&self, flush: &Flush) -> Result<()>;

    /// Returns the use of a system's keys in these buckets, in no particular order. Buckets without use are left out.
    async fn find_usage(&self, tenant: &TenantId, system: SystemId, range: &UsageRange) -> Result<Vec<BucketCounts>>;

    /// Returns the summaries of the tenant's systems with these ids, in no particular order. Systems without any use have
    /// none.
    async fn find_usage_summaries(&self, tenant: &TenantId, systems: &[SystemId]) -> Result<Vec<UsageSummary>>;

    /// Returns the last use of each of the tenant's systems that a flush [`at`](Flush::at) or after this time was about, in
    /// no particular order. A system that was never used is left out, and one that was deleted may be included.
    ///
    /// Clocks of instances differ, and a flush takes some time: to follow the changes, use a time that is a minute before
    /// the previous call.
    async fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>>;

    /// Removes hours and days that are past their retention, the summaries of deleted systems whose keys were not presented
    /// since `unused_since`, and what is kept of a system's keys beyond
    /// [`MAX_KEYS_PER_SYSTEM`](crate::domain::usage::MAX_KEYS_PER_SYSTEM). Returns the number of removed rows.
    ///
    /// Reads the summaries of all systems. May run on any instance at any time.
    async fn purge_usage(&self, now: Timestamp, retention: UsageRetention, unused_since: Timestamp) -> Result<u64>;
}
