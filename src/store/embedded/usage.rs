//! Use of keys: rows of a system, of a system and a day, and of a system and a month.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::errors::storage;
use super::rows::{Storage, get, skip_corrupted};
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{SYSTEMS, USAGE, USAGE_BY_WRITE, USAGE_DAYS, USAGE_FLUSHES, USAGE_HOURS, UsageSeries, encode};
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::Mark;
use crate::domain::time::Timestamp;
use crate::domain::usage::{
    BucketCounts, Counts, Flush, KeySummary, KeyUse, MAX_KEYS_PER_SYSTEM, Resolution, UsageRange, UsageRetention,
    UsageSummary, surplus_keys,
};
use crate::store::{Result, UsageStore};

/// Rows that one transaction of a purge removes.
const MAX_REMOVALS: usize = 500;
/// A process that has not flushed for this long repeats no flush.
const FLUSH_RETENTION: Duration = Duration::from_hours(24);

/// A row of [`USAGE`].
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredSummary {
    written_at: Timestamp,
    last_used_at: Option<Timestamp>,
    keys: HashMap<Mark, StoredKey>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct StoredKey {
    used: Option<Timestamp>,
    refused: Option<Timestamp>,
    refusals: u64,
}

/// A row of a series: accepted and refused by bucket, counted from the Unix epoch.
pub(super) type StoredSeries = HashMap<Mark, BTreeMap<u32, (u64, u64)>>;

#[async_trait]
impl UsageStore for EmbeddedStore {
    async fn add_usage(&self, flush: &Flush) -> Result<()> {
        let flush = flush.clone();
        self.writer.submit(move |txn| add(txn, &flush).map(Ok)).await
    }

    async fn find_usage(&self, tenant: &TenantId, system: SystemId, range: &UsageRange) -> Result<Vec<BucketCounts>> {
        let (tenant, range) = (tenant.clone(), *range);
        self.read_blocking(move |snapshot| snapshot.find_usage(&tenant, system, &range)).await
    }

    async fn find_usage_summaries(&self, tenant: &TenantId, systems: &[SystemId]) -> Result<Vec<UsageSummary>> {
        self.read(|snapshot| {
            let find = |system: &SystemId| {
                let id = system.to_string();
                let found = snapshot.get::<_, StoredSummary>(USAGE, (tenant.as_str(), id.as_str()));
                found.map(|found| found.map(|found| found.summary_of(*system))).transpose()
            };
            systems.iter().filter_map(find).collect()
        })
    }

    async fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>> {
        let tenant = tenant.clone();
        self.read_blocking(move |snapshot| snapshot.list_last_uses(&tenant, since)).await
    }

    async fn purge_usage(&self, now: Timestamp, retention: UsageRetention, unused_since: Timestamp) -> Result<u64> {
        let mut removed = 0;
        for resolution in [Resolution::Hour, Resolution::Day] {
            let first = retention.first_row(resolution, now);
            loop {
                let some = self.writer.submit(move |txn| remove_series(txn, resolution, first).map(Ok)).await?;
                removed += some as u64;
                if some < MAX_REMOVALS {
                    break;
                }
            }
        }
        let idle = now.minus(FLUSH_RETENTION).as_millis();
        let remove_idle = move |txn: &WriteTransaction| {
            txn.open_table(USAGE_FLUSHES)?.retain(|_, (_, at)| at >= idle)?;
            Ok(Ok(()))
        };
        self.writer.submit(remove_idle).await?;
        let orphans = self.read_blocking(move |snapshot| snapshot.orphans(unused_since)).await?;
        for orphans in orphans.chunks(MAX_REMOVALS) {
            let orphans = orphans.to_vec();
            removed += self.writer.submit(move |txn| remove_orphans(txn, &orphans, unused_since).map(Ok)).await?;
        }
        Ok(removed)
    }
}

impl StoredSummary {
    fn keys(&self) -> HashMap<Mark, KeySummary> {
        let key = |(mark, key): (&Mark, &StoredKey)| {
            let StoredKey { used, refused, refusals } = *key;
            (*mark, KeySummary { last_used_at: used, last_refused_at: refused, refusals })
        };
        self.keys.iter().map(key).collect()
    }

    pub(super) fn summary_of(&self, system: SystemId) -> UsageSummary {
        let Self { written_at, last_used_at, .. } = *self;
        UsageSummary { system, written_at, last_used_at, keys: self.keys() }
    }

    fn add(&mut self, used: &KeyUse, at: Timestamp) {
        self.written_at = self.written_at.max(at);
        self.last_used_at = self.last_used_at.max(used.last_used_at);
        let key = self.keys.entry(used.mark).or_default();
        key.used = key.used.max(used.last_used_at);
        key.refused = key.refused.max(used.last_refused_at);
        key.refusals = key.refusals.saturating_add(used.counts.refused);
        if self.keys.len() > MAX_KEYS_PER_SYSTEM {
            for mark in surplus_keys(&self.keys()) {
                self.keys.remove(&mark);
            }
        }
    }
}

impl From<UsageSummary> for StoredSummary {
    fn from(summary: UsageSummary) -> Self {
        let UsageSummary { system: _, written_at, last_used_at, keys } = summary;
        let key = |(mark, key): (Mark, KeySummary)| {
            let KeySummary { last_used_at, last_refused_at, refusals } = key;
            (mark, StoredKey { used: last_used_at, refused: last_refused_at, refusals })
        };
        Self { written_at, last_used_at, keys: keys.into_iter().map(key).collect() }
    }
}

pub(super) fn series_of(resolution: Resolution) -> UsageSeries {
    match resolution {
        Resolution::Hour => USAGE_HOURS,
        Resolution::Day => USAGE_DAYS,
    }
}

/// The counts in a row of a series.
pub(super) fn series_row(series: StoredSeries) -> impl Iterator<Item = BucketCounts> {
    series.into_iter().flat_map(|(mark, buckets)| {
        buckets.into_iter().map(move |(bucket, (accepted, refused))| {
            let counts = Counts { accepted, refused };
            BucketCounts { mark, bucket, counts }
        })
    })
}

/// The inverse of [`series_row`].
pub(super) fn stored_series(counts: &[BucketCounts]) -> StoredSeries {
    let mut series = StoredSeries::default();
    for BucketCounts { mark, bucket, counts } in counts {
        series.entry(*mark).or_default().insert(*bucket, (counts.accepted, counts.refused));
    }
    series
}

fn add(txn: &WriteTransaction, flush: &Flush) -> Storage<()> {
    let instance = flush.instance.to_string();
    let mut flushes = txn.open_table(USAGE_FLUSHES)?;
    if flushes.get(instance.as_str())?.is_some_and(|last| last.value().0 >= flush.number) {
        return Ok(());
    }
    flushes.insert(instance.as_str(), (flush.number, flush.at.as_millis()))?;
    for used in &flush.uses {
        let id = used.system.to_string();
        // A row that cannot be read is left as it is, and holds up no other one.
        let found = skip_corrupted(get(txn, USAGE, (used.tenant.as_str(), id.as_str())))?;
        let Some(found) = found else { continue };
        let mut summary: StoredSummary = found.unwrap_or_default();
        let mut by_write = txn.open_table(USAGE_BY_WRITE)?;
        by_write.remove((used.tenant.as_str(), summary.written_at.as_millis(), id.as_str()))?;
        summary.add(used, flush.at);
        by_write.insert((used.tenant.as_str(), summary.written_at.as_millis(), id.as_str()), ())?;
        txn.open_table(USAGE)?.insert((used.tenant.as_str(), id.as_str()), encode(&summary).as_slice())?;
        for resolution in [Resolution::Hour, Resolution::Day] {
            let bucket = used.bucket(resolution);
            let key = (resolution.row_of(bucket), used.tenant.as_str(), id.as_str());
            let Some(found) = skip_corrupted(get(txn, series_of(resolution), key))? else { continue };
            let mut series: StoredSeries = found.unwrap_or_default();
            let (accepted, refused) = series.entry(used.mark).or_default().entry(bucket).or_default();
            *accepted = accepted.saturating_add(used.counts.accepted);
            *refused = refused.saturating_add(used.counts.refused);
            txn.open_table(series_of(resolution))?.insert(key, encode(&series).as_slice())?;
        }
    }
    Ok(())
}

/// Removes rows of a series before `first`, at most [`MAX_REMOVALS`]. Returns their number.
fn remove_series(txn: &WriteTransaction, resolution: Resolution, first: u32) -> Storage<usize> {
    let mut table = txn.open_table(series_of(resolution))?;
    let mut past = Vec::new();
    for row in table.range::<(u32, &str, &str)>(..(first, "", ""))?.take(MAX_REMOVALS) {
        let (key, _) = row?;
        let (row, tenant, system) = key.value();
        past.push((row, tenant.to_owned(), system.to_owned()));
    }
    for (row, tenant, system) in &past {
        table.remove((*row, tenant.as_str(), system.as_str()))?;
    }
    Ok(past.len())
}

fn remove_orphans(txn: &WriteTransaction, orphans: &[(String, String)], unused_since: Timestamp) -> Storage<u64> {
    let mut removed = 0;
    for (tenant, system) in orphans {
        let key = (tenant.as_str(), system.as_str());
        let summary = get::<_, StoredSummary>(txn, USAGE, key)?.filter(|summary| summary.written_at < unused_since);
        if let Some(summary) = summary {
            txn.open_table(USAGE)?.remove(key)?;
            txn.open_table(USAGE_BY_WRITE)?.remove((key.0, summary.written_at.as_millis(), key.1))?;
            removed += 1;
        }
    }
    Ok(removed)
}

impl Snapshot {
    fn find_usage(&self, tenant: &TenantId, system: SystemId, range: &UsageRange) -> Result<Vec<BucketCounts>> {
        let id = system.to_string();
        let mut counted = Vec::new();
        for row in range.rows() {
            let found = self.get(series_of(range.resolution), (row, tenant.as_str(), id.as_str()))?;
            let series: StoredSeries = found.unwrap_or_default();
            counted.extend(series_row(series));
        }
        counted.retain(|counted| range.contains(counted.bucket));
        Ok(counted)
    }

    fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>> {
        let by_write = self.0.open_table(USAGE_BY_WRITE).map_err(storage)?;
        let tenant = tenant.as_str();
        let rows = by_write.range::<(&str, i64, &str)>((tenant, since.as_millis(), "")..).map_err(storage)?;
        let mut found = Vec::new();
        for row in rows {
            let (key, ()) = (row.map_err(storage)?.0, ());
            let (of, _, system) = key.value();
            if of != tenant {
                break;
            }
            let summary: Option<StoredSummary> = self.get(USAGE, (tenant, system))?;
            if let (Some(at), Ok(system)) = (summary.and_then(|summary| summary.last_used_at), system.parse()) {
                found.push((system, at));
            }
        }
        Ok(found)
    }

    /// Tenant and system of summaries that were not written since, and whose system does not exist.
    fn orphans(&self, unused_since: Timestamp) -> Result<Vec<(String, String)>> {
        let by_write = self.0.open_table(USAGE_BY_WRITE).map_err(storage)?;
        let systems = self.0.open_table(SYSTEMS).map_err(storage)?;
        let mut orphans = Vec::new();
        for row in by_write.iter().map_err(storage)? {
            let key = row.map_err(storage)?.0;
            let (tenant, written_at, system) = key.value();
            if written_at < unused_since.as_millis() && systems.get((tenant, system)).map_err(storage)?.is_none() {
                orphans.push((tenant.to_owned(), system.to_owned()));
            }
        }
        Ok(orphans)
    }
}
