//! What is measured of memory, leases and barriers.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Coherence;

/// Seconds of a barrier: from one instance to a lease.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// What is counted as it happens.
pub(super) struct CoherenceMetrics {
    pub enforcements: Histogram,
    pub pending: Counter,
    pub losses: Counter,
}

impl Default for CoherenceMetrics {
    fn default() -> Self {
        Self { enforcements: Histogram::new(BUCKETS), pending: Counter::default(), losses: Counter::default() }
    }
}

impl Coherence {
    /// Has everything here shown among the metrics.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let CoherenceMetrics { enforcements, pending, losses } = &self.metrics;
        registry.register(
            "enforcement_seconds",
            "From a commit to the proof that no instance acts without it",
            enforcements.clone(),
        );
        registry.register(
            "enforcements_pending",
            "Changes answered before that proof, since the wait was cut short",
            pending.clone(),
        );
        registry.register("feed_losses", "How often the feed was lost and memory with it", losses.clone());
        registry.register_collector(Box::new(Snapshot(Arc::clone(self))));
    }
}

/// What is looked up when somebody asks.
struct Snapshot(Arc<Coherence>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let coherence = &*self.0;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let now = coherence.stopwatch.now();
        let (instances, lease_age, feed_lag) = {
            let state = coherence.state();
            (state.protocol.instances(), state.protocol.lease_age(now), state.protocol.feed_lag(now))
        };
        let answers = coherence.read(|_| ()).is_some();
        gauge("memory_answers", "1 while memory answers, 0 while the store is read", f64::from(u8::from(answers)))?;
        gauge("instances", "Instances known to take part", f64::from(instances))?;
        if let Some(age) = lease_age {
            gauge("lease_age_seconds", "Since the lease was last renewed", age.as_secs_f64())?;
        }
        if let Some(lag) = feed_lag {
            gauge("feed_lag_seconds", "From a write to its arrival in the feed, of the last probe", lag.as_secs_f64())?;
        }
        if let Some(memory) = coherence.memory.load().as_ref() {
            let count = |number: usize| number as f64;
            gauge("memory_keys", "Current keys in memory", count(memory.keys.current()))?;
            gauge("memory_revoked_keys", "Revoked keys in memory", count(memory.keys.revoked()))?;
            gauge("memory_key_bytes", "Bytes of memory that keys take", count(memory.keys.bytes()))?;
            gauge("memory_sessions", "Sessions in memory", count(memory.identities.sessions()))?;
            gauge("memory_operators", "Operators in memory", count(memory.identities.operators()))?;
            let (tenants, bytes) = memory.names.size();
            gauge("memory_named_tenants", "Tenants whose systems' names are in memory", count(tenants))?;
            gauge("memory_name_bytes", "Bytes of memory that names take", count(bytes))?;
        }
        Ok(())
    }
}
