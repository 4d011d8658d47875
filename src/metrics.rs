//! Metrics, in the format of Prometheus.

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::process_metrics::ProcessMetrics;

pub struct Metrics {
    /// Names have no prefix in it.
    root: Registry,
    pub verifications: Verifications,
    /// From the head of a request to its response, in seconds.
    pub verification_seconds: Histogram,
    /// Verifications of bad keys from sources that exceeded the limit on bad keys.
    pub limited: Counter,
    pub refused_verifiers: RefusedVerifiers,
    /// Connections of the public listener.
    pub public_connections: ConnectionMetrics,
    pub verification_connections: ConnectionMetrics,
    tls: TlsFamilies,
}

/// The TLS of one listener.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    /// When the certificate expires, in seconds since 1970.
    pub expiry: Gauge,
    pub reloaded: Counter,
    pub reloads_failed: Counter,
    pub handshakes_failed: Counter,
}

#[derive(Default)]
struct TlsFamilies {
    expiry: Family<[(&'static str, &'static str); 1], Gauge>,
    reloads: Family<[(&'static str, &'static str); 2], Counter>,
    handshakes_failed: Family<[(&'static str, &'static str); 1], Counter>,
}

impl TlsFamilies {
    fn register(registry: &mut Registry) -> Self {
        let Self { expiry, reloads, handshakes_failed } = Self::default();
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate expires, by listener",
            expiry.clone(),
        );
        registry.register(
            "tls_reloads",
            "Reads of changed certificates and keys, by listener and outcome",
            reloads.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed or timed out, by listener",
            handshakes_failed.clone(),
        );
        Self { expiry, reloads, handshakes_failed }
    }
}

/// Begins the name of each metric, except those of the process.
const PREFIX: &str = "keymark";

/// Bounds in seconds. From the cache a verification takes microseconds, from the store milliseconds.
const VERIFICATION_BUCKETS: [f64; 12] = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 2.5];

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
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessMetrics));
        let registry = root.sub_registry_with_prefix(PREFIX);
        registry.register("build", "The program", Info::new([("version", env!("SOURCE_VERSION"))]));
        registry.register("verifications", "Verifications, by the code of the verdict", family);
        let verification_seconds = Histogram::new(VERIFICATION_BUCKETS);
        registry.register(
            "verification_seconds",
            "Time from the head of a verification to its response",
            verification_seconds.clone(),
        );
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
        let (public_connections, verification_connections) = ConnectionMetrics::register(registry);
        let tls = TlsFamilies::register(registry);
        Self {
            root,
            verifications,
            verification_seconds,
            limited,
            refused_verifiers,
            public_connections,
            verification_connections,
            tls,
        }
    }
}

impl Metrics {
    /// The registry, for other modules to register their metrics.
    pub fn registry(&mut self) -> &mut Registry {
        self.root.sub_registry_with_prefix(PREFIX)
    }

    /// The metrics of a listener with TLS: `public` or `verification`.
    pub fn tls(&self, listener: &'static str) -> TlsMetrics {
        let reloads = |outcome| self.tls.reloads.get_or_create_owned(&[("listener", listener), ("outcome", outcome)]);
        TlsMetrics {
            expiry: self.tls.expiry.get_or_create_owned(&[("listener", listener)]),
            reloaded: reloads("reloaded"),
            reloads_failed: reloads("failed"),
            handshakes_failed: self.tls.handshakes_failed.get_or_create_owned(&[("listener", listener)]),
        }
    }

    /// The OpenMetrics text format.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.root).is_err() {
            let _ = text.write_str("# encoding the metrics failed\n");
        }
        text
    }
}
