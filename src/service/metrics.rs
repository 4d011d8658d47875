//! Metrics of the service.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Service;

#[derive(Default)]
pub(super) struct ServiceMetrics {
    sign_ins: Family<[(&'static str, &'static str); 1], Counter>,
    subscribers: Gauge,
}

/// Counts as one subscriber until it is dropped.
pub(super) struct Subscriber(Gauge);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ServiceMetrics {
    /// `outcome` is `accepted`, `refused` (wrong username or password) or `limited` (too many attempts).
    pub(super) fn count_sign_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn subscriber(&self) -> Subscriber {
        self.subscribers.inc();
        Subscriber(self.subscribers.clone())
    }
}

impl Service {
    /// Registers the metrics of the service.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("sign_ins", "Attempts to sign in, by outcome", self.metrics.sign_ins.clone());
        registry.register("subscribers", "Open subscriptions to changes", self.metrics.subscribers.clone());
    }
}
