//! Use of keys: adding what was counted to the store, and reading it.
//!
//! A flush that fails is kept, and repeated with the same number before the next one, so that each use is added once. What
//! a process has not flushed when it is killed is lost.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Service;
use super::error::Error;
use crate::clock::Environment;
use crate::coherence::Coherence;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::leases::Incarnation;
use crate::domain::time::Timestamp;
use crate::domain::usage::{BucketCounts, Counts, Flush, KeyUse, Resolution, UsageRange, UsageSummary};
use crate::domain::verdict::{Identity, RefusedKey};
use crate::store::{ROWS_PER_USE, StoreError};

/// Interval between two sweeps of all keys, if the budget allows it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Interval between two flushes of the keys in rotation.
const ROTATION_INTERVAL: Duration = Duration::from_secs(2);
/// Interval between two notifications of subscribers.
const NOTIFICATION_INTERVAL: Duration = Duration::from_secs(2);
/// Uses of one flush, which is one transaction with three rows for each.
const MAX_USES_PER_FLUSH: usize = 1_000;

/// Use of a system's keys, as the store has it.
pub struct FoundUsage {
    pub range: UsageRange,
    pub counted: Vec<BucketCounts>,
    /// Everything that this instance counted before is included.
    pub counted_until: Timestamp,
}

pub(super) struct Usage {
    instance: Incarnation,
    flushes: Mutex<Flushes>,
    /// Held from when uses of keys in rotation are taken until they were added or kept.
    in_rotation: Mutex<()>,
    /// All that was counted before this time is in the store: milliseconds since the Unix epoch.
    counted_until: Arc<AtomicI64>,
    rows: Counter,
    failures: Counter,
}

#[derive(Default)]
struct Flushes {
    /// Number of the last flush.
    number: u64,
    /// The uses of that flush, if it may not have been added.
    failed: Vec<KeyUse>,
}

/// Limits the rows that are written in a second.
struct Budget {
    rows_per_second: u32,
    /// When the rows that were written so far are paid for.
    next: std::sync::Mutex<Instant>,
}

impl Budget {
    fn new(rows_per_second: u32) -> Self {
        Self { rows_per_second, next: std::sync::Mutex::new(Instant::now()) }
    }

    /// Waits until the rows written before are paid for, or `stop` is cancelled.
    async fn wait(&self, uses: usize, stop: &CancellationToken) {
        let cost = Duration::from_secs_f64((uses * ROWS_PER_USE) as f64 / f64::from(self.rows_per_second));
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + cost;
            turn
        };
        stop.run_until_cancelled(sleep_until(turn)).await;
    }

    fn uses_per_flush(&self) -> usize {
        (self.rows_per_second as usize / ROWS_PER_USE).clamp(1, MAX_USES_PER_FLUSH)
    }
}

impl Usage {
    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            instance: Incarnation::generate(&mut **environment.rng()),
            flushes: Mutex::default(),
            in_rotation: Mutex::default(),
            counted_until: Arc::new(AtomicI64::new(environment.now().as_millis())),
            rows: Counter::default(),
            failures: Counter::default(),
        }
    }

    fn counted_until(&self) -> Timestamp {
        Timestamp::from_millis(self.counted_until.load(Ordering::Relaxed))
    }

    pub(super) fn counted_until_millis(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.counted_until)
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("usage_rows", "Rows of the use of keys that were written", self.rows.clone());
        let failures = self.failures.clone();
        registry.register("usage_flush_failures", "Attempts to write the use of keys that failed", failures);
    }
}

impl Service {
    /// Counts a verification that accepted a key which the store returned.
    pub fn count_accepted(&self, identity: &Identity, now: Timestamp) {
        let Identity { tenant, system, mark, .. } = identity;
        self.coherence.add_use(KeyUse {
            tenant: tenant.clone(),
            system: *system,
            mark: *mark,
            counts: Counts { accepted: 1, refused: 0 },
            last_used_at: Some(to_second(now)),
            last_refused_at: None,
        });
    }

    /// Counts a verification that refused a known key.
    pub fn count_refused(&self, key: &RefusedKey, now: Timestamp) {
        self.coherence.add_use(KeyUse {
            tenant: key.tenant.clone(),
            system: key.system,
            mark: key.mark,
            counts: Counts { accepted: 0, refused: 1 },
            last_used_at: None,
            last_refused_at: Some(to_second(now)),
        });
    }

    /// Adds what was counted to the store every 10 seconds, and every 2 seconds that of keys in rotation, under the budget,
    /// and notifies subscribers, until `stop` is cancelled. Then it adds what is left, as [`flush_usage`](Self::flush_usage)
    /// does.
    pub async fn run_usage(&self, stop: CancellationToken) {
        let rows_per_second = self.settings.usage_rows_per_second;
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut sweeps, mut rotations) = (every(SWEEP_INTERVAL), every(ROTATION_INTERVAL));
        let mut notifications = every(NOTIFICATION_INTERVAL);
        let budget = Budget::new(rows_per_second);
        let sweep = async {
            while stop.run_until_cancelled(sweeps.tick()).await.is_some() {
                self.log_failure(self.sweep(&budget, &stop).await);
            }
        };
        let rotate = async {
            while stop.run_until_cancelled(rotations.tick()).await.is_some() {
                self.log_failure(self.flush_rotations(&budget, &stop).await);
            }
        };
        let notify = async {
            while stop.run_until_cancelled(notifications.tick()).await.is_some() {
                if let Err(error) = self.notify_usage().await {
                    tracing::debug!(%error, "subscribers to usage not notified");
                }
            }
        };
        tokio::join!(sweep, rotate, notify);
        self.log_failure(self.sweep_all().await);
    }

    /// Adds all that was counted to the store, without regard to the budget.
    ///
    /// # Errors
    ///
    /// The store's errors. What was not added is kept for the next call.
    pub async fn flush_usage(&self) -> Result<(), Error> {
        Ok(self.sweep_all().await?)
    }

    /// Adds what was counted for keys in rotation to the store.
    ///
    /// # Errors
    ///
    /// As [`flush_usage`](Self::flush_usage).
    pub async fn flush_usage_in_rotation(&self) -> Result<(), Error> {
        Ok(self.flush_rotations(&Budget::new(u32::MAX), &CancellationToken::new()).await?)
    }

    fn log_failure(&self, flushed: Result<(), StoreError>) {
        if let Err(error) = flushed {
            tracing::warn!(%error, counted_until = %self.usage.counted_until(), "use of keys not written; kept");
        }
    }

    async fn flush_rotations(&self, budget: &Budget, stop: &CancellationToken) -> Result<(), StoreError> {
        let _taking = self.usage.in_rotation.lock().await;
        self.add_uses(self.coherence.take_uses_in_rotation(), budget, stop).await
    }

    async fn sweep_all(&self) -> Result<(), StoreError> {
        self.sweep(&Budget::new(u32::MAX), &CancellationToken::new()).await
    }

    /// Adds what all parts of the cache have counted.
    async fn sweep(&self, budget: &Budget, stop: &CancellationToken) -> Result<(), StoreError> {
        let began = self.environment.now();
        let mut uses = Vec::new();
        for part in 0..Coherence::USE_PARTS {
            uses.append(&mut self.coherence.take_uses(part));
            if uses.len() >= budget.uses_per_flush() {
                self.add_uses(std::mem::take(&mut uses), budget, stop).await?;
            }
            if stop.is_cancelled() {
                break;
            }
            // A part with many keys takes a while to read.
            tokio::task::consume_budget().await;
        }
        // Last, since counts come from the cache to these, and never the other way.
        uses.append(&mut self.coherence.take_pending_uses());
        self.add_uses(uses, budget, stop).await?;
        let _taking = self.usage.in_rotation.lock().await;
        if !stop.is_cancelled() && self.usage.flushes.lock().await.failed.is_empty() {
            self.usage.counted_until.fetch_max(began.as_millis(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Adds the uses, and keeps those that were not added: after an error, and when `stop` is cancelled.
    async fn add_uses(
        &self,
        mut uses: Vec<KeyUse>,
        budget: &Budget,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut added = Ok(());
        while added.is_ok() {
            let some = uses.split_off(uses.len().saturating_sub(budget.uses_per_flush()));
            budget.wait(some.len(), stop).await;
            if stop.is_cancelled() {
                uses.extend(some);
                break;
            }
            added = self.add_some(some).await;
            if uses.is_empty() {
                break;
            }
        }
        uses.into_iter().for_each(|used| self.coherence.add_use(used));
        added
    }

    /// Adds the flush that failed before, if there is one, and then these uses as the next one.
    async fn add_some(&self, uses: Vec<KeyUse>) -> Result<(), StoreError> {
        let mut flushes = self.usage.flushes.lock().await;
        let mut added = Ok(());
        if !flushes.failed.is_empty() {
            added = self.try_add(&mut flushes).await;
        }
        if added.is_err() {
            uses.into_iter().for_each(|used| self.coherence.add_use(used));
        } else if !uses.is_empty() {
            flushes.number += 1;
            flushes.failed = uses;
            added = self.try_add(&mut flushes).await;
        }
        added
    }

    async fn try_add(&self, flushes: &mut Flushes) -> Result<(), StoreError> {
        let flush = Flush {
            instance: self.usage.instance,
            number: flushes.number,
            at: self.environment.now(),
            // A copy, since the caller may be dropped.
            uses: flushes.failed.clone(),
        };
        let added = self.store.add_usage(&flush).await;
        match &added {
            Ok(()) => {
                self.usage.rows.inc_by((flush.uses.len() * ROWS_PER_USE) as u64);
                flushes.failed.clear();
            }
            Err(_) => drop(self.usage.failures.inc()),
        }
        added
    }

    /// Removes use that is past its retention. Returns the number of removed rows.
    pub async fn purge_usage(&self) -> Result<u64, Error> {
        let now = self.environment.now();
        let unused_since = now.minus(self.settings.revoked_retention);
        Ok(self.store.purge_usage(now, self.settings.usage_retention, unused_since).await?)
    }

    /// The time until which all use that this instance counted is in the store.
    pub fn usage_counted_until(&self) -> Timestamp {
        self.usage.counted_until()
    }

    /// Reads the use of a system's keys. [`UsageRange::new`] describes the range.
    pub async fn find_usage(
        &self,
        tenant: &TenantId,
        system: SystemId,
        resolution: Resolution,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<FoundUsage, Error> {
        let (now, retention) = (self.environment.now(), self.settings.usage_retention);
        let range = UsageRange::new(resolution, from, to, now, retention)?;
        // Before the read, which may return more than that.
        let counted_until = self.usage.counted_until();
        let counted = self.store.find_usage(tenant, system, &range).await?;
        Ok(FoundUsage { range, counted, counted_until })
    }

    pub async fn find_usage_summaries(
        &self,
        tenant: &TenantId,
        systems: &[SystemId],
    ) -> Result<Vec<UsageSummary>, Error> {
        Ok(self.store.find_usage_summaries(tenant, systems).await?)
    }
}

fn to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(1000) * 1000)
}
