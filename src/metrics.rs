//! Metrics, in the format of Prometheus.

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub struct Metrics {
    registry: Registry,
    pub verifications: Verifications,
    /// Verifications of bad keys from sources that exceeded the limit on bad keys.
    pub limited: Counter,
    pub refused_verifiers: RefusedVerifiers,
    /// Connections of the public listener.
    pub public_connections: ConnectionMetrics,
    pub verification_connections: ConnectionMetrics,
}

/// Requests of clients without access to the verification listener.
pub struct RefusedVerifiers {
    pub no_token: Counter,
    pub wrong_token: Counter,
    pub expired_token: Counter,
    /// A tenant's token, for the metrics.
    pub tenant_token: Counter,
    pub network: Counter,
}

/// Verifications by the code of the verdict. Each counter is a field, so that none is looked up per verification.
pub struct Verifications {
    pub valid: Counter,
    pub malformed: Counter,
    pub not_found: Counter,
    pub revoked: Counter,
    pub suspended: Counter,
    pub expired: Counter,
    /// The key could not be verified.
    pub unavailable: Counter,
}

/// Connections of one listener.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    pub open: Gauge,
    /// Beyond the limit of the listener.
    pub refused_in_total: Counter,
    /// Beyond the limit of an address.
    pub refused_by_address: Counter,
}

impl ConnectionMetrics {
    /// Registers the metrics of the public listener and of the verification listener.
    fn register(registry: &mut Registry) -> (Self, Self) {
        let open = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        let refused = Family::<[(&'static str, &'static str); 2], Counter>::default();
        let of = |listener| Self {
            open: open.get_or_create_owned(&[("listener", listener)]),
            refused_in_total: refused.get_or_create_owned(&[("listener", listener), ("limit", "listener")]),
            refused_by_address: refused.get_or_create_owned(&[("listener", listener), ("limit", "address")]),
        };
        let both = (of("public"), of("verification"));
        registry.register("connections", "Open connections, by listener", open);
        registry.register("connections_refused", "Refused connections, by listener and limit", refused);
        both
    }
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
            suspended: verdict("SUSPENDED"),
            expired: verdict("EXPIRED"),
            unavailable: verdict("UNAVAILABLE"),
        };
        let mut registry = Registry::with_prefix("keymark");
        registry.register("verifications", "Verifications, by the code of the verdict", family);
        let limited = Counter::default();
        registry.register(
            "verifications_limited",
            "Bad keys from sources that exceeded the limit on bad keys",
            limited.clone(),
        );
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let reason = |reason| family.get_or_create_owned(&[("reason", reason)]);
        let refused_verifiers = RefusedVerifiers {
            no_token: reason("no_token"),
            wrong_token: reason("wrong_token"),
            expired_token: reason("expired_token"),
            tenant_token: reason("tenant_token"),
            network: reason("network"),
        };
        registry.register(
            "verifiers_refused",
            "Requests without a valid verifier token or from a network that is not allowed, by reason",
            family,
        );
        let (public_connections, verification_connections) = ConnectionMetrics::register(&mut registry);
        Self { registry, verifications, limited, refused_verifiers, public_connections, verification_connections }
    }
}

impl Metrics {
    /// The registry, for other modules to register their metrics.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The OpenMetrics text format.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = text.write_str("# encoding the metrics failed\n");
        }
        text
    }
}
