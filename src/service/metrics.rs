//! Metrics of the service.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::Service;
use crate::clock::Environment;
use crate::domain::time::Timestamp;

pub(super) struct ServiceMetrics {
    sign_ins: Family<[(&'static str, &'static str); 1], Counter>,
    unknown_usernames: Counter,
    limited_token_calls: Counter,
    subscribers: Gauge,
    pub(super) answers: AnswerCounters,
    /// Checkpoints that this instance signed.
    pub(super) checkpoints: Counter,
    /// Times that a log was found to differ from what was written.
    pub(super) audit_breaks: Counter,
    /// Entries that this instance removed since they are archived.
    pub(super) archived_entries: Counter,
    /// The store's epoch, as far as this instance has read it.
    pub(super) epoch: Gauge,
    /// When this instance last completed a backup: seconds since the Unix epoch.
    backed_up_at: Gauge,
    backup_bytes: Gauge,
    /// When all logs had a checkpoint at their end: milliseconds since the Unix epoch.
    checkpointed_at: Arc<AtomicI64>,
}

/// Answers to queries that depend only on a tenant's systems and audit log.
#[derive(Default)]
pub(super) struct AnswerCounters {
    pub(super) cached: Counter,
    pub(super) computed: Counter,
    pub(super) not_modified: Counter,
}

/// Counts as one subscriber until it is dropped.
pub(super) struct Subscriber(Gauge);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ServiceMetrics {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            sign_ins: Family::default(),
            unknown_usernames: Counter::default(),
            limited_token_calls: Counter::default(),
            subscribers: Gauge::default(),
            answers: AnswerCounters::default(),
            checkpoints: Counter::default(),
            audit_breaks: Counter::default(),
            archived_entries: Counter::default(),
            epoch: Gauge::default(),
            backed_up_at: Gauge::default(),
            backup_bytes: Gauge::default(),
            checkpointed_at: Arc::new(AtomicI64::new(now.as_millis())),
        }
    }

    pub(super) fn checkpoints_completed(&self, now: Timestamp) {
        self.checkpointed_at.store(now.as_millis(), Ordering::Relaxed);
    }

    pub(super) fn backup_completed(&self, now: Timestamp, bytes: u64) {
        self.backed_up_at.set(now.as_millis() / 1000);
        self.backup_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    /// `outcome` is `accepted`, `refused` (wrong username or password) or `limited` (too many attempts).
    pub(super) fn count_sign_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a refused sign-in with a username that no operator has.
    pub(super) fn count_unknown_username(&self) {
        self.unknown_usernames.inc();
    }

    /// Counts a call that was refused, since its service token has too many.
    pub(super) fn count_limited_token_call(&self) {
        self.limited_token_calls.inc();
    }

    pub(super) fn subscriber(&self) -> Subscriber {
        self.subscribers.inc();
        Subscriber(self.subscribers.clone())
    }
}

impl Service {
    /// Registers the metrics of the service.
    pub fn register(&self, registry: &mut Registry) {
        self.concurrency.register(registry);
        registry.register("sign_ins", "Attempts to sign in, by outcome", self.metrics.sign_ins.clone());
        registry.register(
            "sign_ins_unknown_username",
            "Refused sign-ins with a username that no operator has",
            self.metrics.unknown_usernames.clone(),
        );
        registry.register(
            "service_token_calls_limited",
            "Calls refused because their service token has too many",
            self.metrics.limited_token_calls.clone(),
        );
        registry.register("subscribers", "Open subscriptions to changes", self.metrics.subscribers.clone());
        let AnswerCounters { cached, computed, not_modified } = &self.metrics.answers;
        for (name, help, counter) in [
            ("answers_cached", "Answers of the API returned from the cache", cached),
            ("answers_computed", "Answers of the API that may be cached, computed", computed),
            ("answers_not_modified", "Answers of the API with status 304", not_modified),
        ] {
            registry.register(name, help, counter.clone());
        }
        let checkpoints = self.metrics.checkpoints.clone();
        registry.register("audit_checkpoints", "Checkpoints of audit logs that this instance signed", checkpoints);
        registry.register(
            "audit_breaks",
            "Times an audit log was found to differ from what was written",
            self.metrics.audit_breaks.clone(),
        );
        registry.register(
            "audit_archived_entries",
            "Entries that this instance removed from audit logs since they are archived",
            self.metrics.archived_entries.clone(),
        );
        registry.register("store_epoch", "How often the store was restored from a backup", self.metrics.epoch.clone());
        registry.register(
            "backup_timestamp_seconds",
            "When this process last completed a backup, since the Unix epoch; 0 if it has completed none",
            self.metrics.backed_up_at.clone(),
        );
        registry.register("backup_bytes", "Size of the last backup", self.metrics.backup_bytes.clone());
        registry.register_collector(Box::new(Age {
            name: "audit_checkpoint_age_seconds",
            help: "Time since all audit logs had a checkpoint at their end, or since the start",
            environment: self.environment.clone(),
            since: Arc::clone(&self.metrics.checkpointed_at),
        }));
        self.usage.register(registry);
        registry.register_collector(Box::new(Age {
            name: "usage_lag_seconds",
            help: "Age of the oldest use of a key that may not be in the store",
            environment: self.environment.clone(),
            since: self.usage.counted_until_millis(),
        }));
    }
}

/// A gauge with the time since a moment.
struct Age {
    name: &'static str,
    help: &'static str,
    environment: Environment,
    /// Milliseconds since the Unix epoch.
    since: Arc<AtomicI64>,
}

impl fmt::Debug for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let since = Timestamp::from_millis(self.since.load(Ordering::Relaxed));
        let age = ConstGauge::new(self.environment.now().since(since).as_secs_f64());
        age.encode(encoder.encode_descriptor(self.name, self.help, None, age.metric_type())?)
    }
}
