//! Leases, through which the instances of a store coordinate their caches. They reach each other through the feed.

use std::fmt;

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
}
