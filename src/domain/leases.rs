//! Leases: what instances that answer from memory tell one another through the feed.

use std::fmt;

use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};

use super::hex::{hex, written_in_hex};

/// When something was committed, in the order of the feed. Comparable between instances; the time of no clock.
///
/// Everything that commits at once has one and the same; what is committed later has a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogTime(u64);

impl LogTime {
    /// After every other one.
    pub const LAST: Self = Self(u64::MAX);

    pub const fn new(time: u64) -> Self {
        Self(time)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One life of one instance's memory: drawn anew each time it is built.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// 128 bits: two never meet.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(rng.random())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

written_in_hex!(Incarnation, "not an incarnation of 32 hex digits");

/// What an incarnation last said of itself: the one document that it, and it alone, writes again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub incarnation: Incarnation,
    /// Moves by one with each write; the first is 1.
    pub sequence: u64,
    /// Everything committed up to this is in its memory.
    pub applied: LogTime,
    /// Whether the others are to say at once how far they have come.
    pub asks: bool,
}
