//! Metrics of the cache, the lease and the barriers.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::domain::secrets::Fingerprint;

/// Upper bounds in seconds: from a barrier on a single instance to the length of a lease.
const ENFORCEMENT_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

pub(super) struct CoherenceMetrics {
    pub enforcements: Histogram,
    pub pending: Counter,
    pub losses: Counter,
}

impl Default for CoherenceMetrics {
    fn default() -> Self {
        Self {
            enforcements: Histogram::new(ENFORCEMENT_BUCKETS),
            pending: Counter::default(),
            losses: Counter::default(),
        }
    }
}

impl CoherenceMetrics {
    /// Registers these metrics, and gauges whose values `gauges` returns at each scrape.
    pub(super) fn register(&self, registry: &mut Registry, gauges: impl Fn() -> Gauges + Send + Sync + 'static) {
        registry.register(
            "enforcement_seconds",
            "Time from a commit until the change was enforced on every instance",
            self.enforcements.clone(),
        );
        registry.register(
            "enforcements_pending",
            "Changes whose response was sent before they were known to be enforced",
            self.pending.clone(),
        );
        registry.register("feed_losses", "Times the change feed was lost and the cache dropped", self.losses.clone());
        registry.register_collector(Box::new(GaugeCollector(gauges)));
    }
}

/// Values at the time of a scrape.
pub(super) struct Gauges {
    pub is_cache_used: bool,
    pub has_newer_format: bool,
    pub instances: u32,
    pub lease_age: Option<Duration>,
    pub feed_lag: Option<Duration>,
    pub cache: Option<CacheGauges>,
}

/// The bounds of `keymark_keys_expiring`, in days.
pub(super) const EXPIRING_WITHIN_DAYS: [u8; 3] = [1, 7, 30];

pub(super) struct CacheGauges {
    pub keys: usize,
    pub revoked_keys: usize,
    pub suspended_keys: usize,
    /// The live keys that end within each of [`EXPIRING_WITHIN_DAYS`].
    pub expiring_keys: [(u8, usize); EXPIRING_WITHIN_DAYS.len()],
    pub key_bytes: usize,
    pub sessions: usize,
    pub operators: usize,
    pub service_tokens: usize,
    pub verifier_tokens: usize,
    pub active_tenants: usize,
    pub suspended_tenants: usize,
    pub named_tenants: usize,
    pub name_bytes: usize,
    pub unreadable_rows: usize,
    /// The current keys by the root secret that their digest needs, if it is known.
    pub keys_by_secret: Vec<(Option<Fingerprint>, usize)>,
}

struct GaugeCollector<F>(F);

impl<F> fmt::Debug for GaugeCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GaugeCollector")
    }
}

impl<F: Fn() -> Gauges + Send + Sync + 'static> Collector for GaugeCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Gauges { is_cache_used, has_newer_format, instances, lease_age, feed_lag, cache } = (self.0)();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("memory_answers", "1 if the cache is used, 0 if it is bypassed", f64::from(u8::from(is_cache_used)))?;
        let help = "1 if the store holds data in a newer format than this release knows, and the cache is bypassed";
        gauge("newer_format", help, f64::from(u8::from(has_newer_format)))?;
        gauge("instances", "Known instances, including this one", f64::from(instances))?;
        if let Some(age) = lease_age {
            gauge("lease_age_seconds", "Time since the lease was last renewed", age.as_secs_f64())?;
        }
        if let Some(lag) = feed_lag {
            let help = "Time from sending the last probe until it arrived in the change feed";
            gauge("feed_lag_seconds", help, lag.as_secs_f64())?;
        }
        if let Some(cache) = cache {
            let count = |number: usize| number as f64;
            gauge("memory_keys", "Current keys in the cache", count(cache.keys))?;
            gauge("memory_revoked_keys", "Revoked keys in the cache", count(cache.revoked_keys))?;
            gauge("memory_suspended_keys", "Keys of suspended systems in the cache", count(cache.suspended_keys))?;
            gauge("memory_key_bytes", "Memory used by cached keys", count(cache.key_bytes))?;
            gauge("memory_sessions", "Sessions in the cache", count(cache.sessions))?;
            gauge("memory_operators", "Operators in the cache", count(cache.operators))?;
            gauge("service_tokens", "Service tokens, including expired ones", count(cache.service_tokens))?;
            gauge("verifier_tokens", "Verifier tokens, including expired ones", count(cache.verifier_tokens))?;
            let help = "Tenants whose system names are in the cache";
            gauge("memory_named_tenants", help, count(cache.named_tenants))?;
            gauge("memory_name_bytes", "Memory used by cached system names", count(cache.name_bytes))?;
            let help = "Stored keys, operators, sessions and systems that cannot be read and are refused";
            gauge("unreadable_rows", help, count(cache.unreadable_rows))?;
            let mut tenants = encoder.encode_descriptor("tenants", "Tenants", None, MetricType::Gauge)?;
            for (state, number) in [("active", cache.active_tenants), ("suspended", cache.suspended_tenants)] {
                ConstGauge::new(count(number)).encode(tenants.encode_family(&[("state", state)])?)?;
            }
            let help = "Keys that end within this time: they expire, or the overlap of their rotation is over";
            let mut keys = encoder.encode_descriptor("keys_expiring", help, None, MetricType::Gauge)?;
            for (days, number) in cache.expiring_keys {
                ConstGauge::new(count(number)).encode(keys.encode_family(&[("within", format!("{days}d"))])?)?;
            }
            let help = "Current keys by the fingerprint of the root secret that verifies them";
            let mut keys = encoder.encode_descriptor("keys_by_secret", help, None, MetricType::Gauge)?;
            for (secret, number) in cache.keys_by_secret {
                let secret = secret.map_or_else(|| "unknown".to_owned(), |secret| secret.to_string());
                ConstGauge::new(count(number)).encode(keys.encode_family(&[("secret", secret)])?)?;
            }
        }
        Ok(())
    }
}
