//! Metrics of a store's calls.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::intercepted::Intercept;
use super::{Result, StoreError};

/// Upper bounds in seconds: from a look-up in a file to a call that timed out.
const BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Measures the duration of calls and counts those that fail.
pub struct StoreMetrics {
    calls: Family<Labels<1>, Histogram, fn() -> Histogram>,
    errors: Family<Labels<2>, Counter>,
}

impl StoreMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let calls = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let errors = Family::default();
        registry.register("store_call_seconds", "Calls of the store, by name", calls.clone());
        registry.register("store_errors", "Calls of the store that failed, by name and kind", errors.clone());
        Self { calls, errors }
    }
}

impl Intercept for StoreMetrics {
    async fn call<T: Send>(&self, name: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let began = Instant::now();
        let result = call.await;
        self.calls.get_or_create(&[("call", name)]).observe(began.elapsed().as_secs_f64());
        if let Err(error) = &result {
            self.errors.get_or_create(&[("call", name), ("kind", kind_of(error))]).inc();
        }
        result
    }
}

fn kind_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Conflict(_) => "conflict",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Overloaded => "overloaded",
        StoreError::DiskFull(_) => "disk_full",
        StoreError::OutcomeUnknown(_) => "outcome_unknown",
        StoreError::PositionTooOld => "position_too_old",
        StoreError::NewerFormat { .. } => "newer_format",
        StoreError::Corrupt(_) => "corrupt",
    }
}
