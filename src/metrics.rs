//! Metrics, as Prometheus reads them.

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    pub verifications: Verifications,
    /// Verifications of bad keys from sources that had presented too many before.
    pub limited: Counter,
}

/// Verifications answered, by the code of the verdict. Counted without a look-up.
pub struct Verifications {
    pub valid: Counter,
    pub malformed: Counter,
    pub not_found: Counter,
    pub revoked: Counter,
    /// It could not be decided.
    pub unavailable: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let verdict = |code| family.get_or_create_owned(&[("verdict", code)]);
        let verifications = Verifications {
            valid: verdict("VALID"),
            malformed: verdict("MALFORMED"),
            not_found: verdict("NOT_FOUND"),
            revoked: verdict("REVOKED"),
            unavailable: verdict("UNAVAILABLE"),
        };
        let mut registry = Registry::with_prefix("keymark");
        registry.register("verifications", "Verifications answered, by the code of the verdict", family);
        let limited = Counter::default();
        registry.register(
            "verifications_limited",
            "Bad keys from sources that had presented too many before",
            limited.clone(),
        );
        Self { registry, verifications, limited }
    }
}

impl Metrics {
    /// Where other parts show what they measure.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The OpenMetrics text format, which Prometheus reads.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = text.write_str("# the metrics could not be written\n");
        }
        text
    }
}
