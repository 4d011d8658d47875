//! Metrics, as Prometheus reads them.

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Labels = [(&'static str, &'static str); 1];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    verdicts: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keymark");
        let verdicts = Family::<Labels, Counter>::default();
        registry.register("verifications", "Verifications answered, by the code of the verdict", verdicts.clone());
        Self { registry, verdicts }
    }
}

impl Metrics {
    /// The OpenMetrics text format, which Prometheus reads.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn count_verdict(&self, code: &'static str) {
        self.verdicts.get_or_create(&[("verdict", code)]).inc();
    }

    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = text.write_str("# the metrics could not be written\n");
        }
        text
    }
}
