//! Leases, through which the instances of a store coordinate their caches. Each receives its own from the feed, and lists
//! those of the others.

use std::fmt;
use std::time::Duration;

use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};

/// The time of a commit in the order of the feed. Comparable between instances, and unrelated to any clock.
///
/// Writes that are committed together have the same time; later commits have a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogTime(u64);

impl LogTime {
    /// Later than every commit.
    pub const LAST: Self = Self(u64::MAX);

    pub const fn new(time: u64) -> Self {
        Self(time)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Identifies one cache of one instance: a new one is generated each time the instance loads its cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// 128 random bits, so that no two are equal.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(rng.random())
    }

    /// A duration below `limit`, by which instances can spread what they would otherwise do at the same time.
    pub fn jitter(&self, limit: Duration) -> Duration {
        limit * u32::from(self.0[0]) / 256
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serialize_as_hex!(Incarnation, "not an incarnation of 32 hex digits");

/// The lease document of an incarnation, written only by that incarnation. Each write is a probe of the lease protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub incarnation: Incarnation,
    /// 1 for the first write, and one more with each further write.
    pub sequence: u64,
    /// The cache contains everything committed up to this time.
    pub applied: LogTime,
    /// Requests that other instances write their leases immediately, to acknowledge a change.
    #[serde(rename = "asks")]
    pub requests_ack: bool,
    /// How long the incarnation may use its cache after it sent a probe; zero if it never does. `None` in a lease of
    /// release 0.1: its length is at most that of the setting [`LENGTH_SETTING`].
    #[serde(rename = "lengthMs", default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub length: Option<Duration>,
}

/// No instance has a longer lease: a revocation would wait for minutes after an instance has crashed.
pub const MAX_LEASE: Duration = Duration::from_secs(300);

/// The setting of the store with the longest lease that any of its instances ever had, in milliseconds. Release 0.1
/// starts only with this length.
pub const LENGTH_SETTING: &str = "lease-ms";

/// Milliseconds as leases and settings are stored, rounded up: nobody must wait for less than the lease.
pub fn to_millis(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

mod millis {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(length: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&length.map(super::to_millis), serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn lengths_are_stored_in_milliseconds_and_never_shortened() {
        let mut lease = Lease {
            incarnation: Incarnation::generate(&mut StdRng::seed_from_u64(1)),
            sequence: 1,
            applied: LogTime::new(2),
            requests_ack: false,
            length: Some(Duration::from_nanos(1_500_000_001)),
        };
        let read = |lease: &Lease| serde_json::from_value::<Lease>(serde_json::to_value(lease).unwrap()).unwrap();
        assert_eq!(read(&lease).length, Some(Duration::from_millis(1501)));
        lease.length = None;
        assert_eq!(serde_json::to_value(lease).unwrap().get("lengthMs"), None);
        assert_eq!(read(&lease), lease, "a lease of release 0.1");
    }
}
