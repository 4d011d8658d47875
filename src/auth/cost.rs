//! The cost of hashing a password, and the measurement that finds one for this machine.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};

use crate::clock::Stopwatch;

/// The least memory for each number of passes, in KiB: the choices for argon2id in OWASP's Password Storage Cheat Sheet,
/// which it rates as equivalent.
const MIN_MEMORY_KIB: [(u32, u32); 5] = [(5, 7 * 1024), (4, 9 * 1024), (3, 12 * 1024), (2, 19 * 1024), (1, 46 * 1024)];
/// A password that is being hashed takes at most 256 MiB, so that a typo does not exhaust the machine's memory.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
/// As many as RFC 9106, section 4, recommends. Keymark computes them one after the other.
const MAX_LANES: u32 = 4;
/// How long a hash should take: long enough for an attacker with the hash, short enough for the person who waits.
pub const ADVISED: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_millis(100);
const TARGET: Duration = Duration::from_millis(75);

/// The cost of one hash. Its text is that of a PHC string: `m=19456,t=2,p=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCost {
    #[error("is not a cost such as {}: memory in KiB, passes and lanes", Cost::DEFAULT)]
    Malformed,
    #[error(
        "is too cheap: OWASP's minimum is m=47104,t=1 or m=19456,t=2 or m=12288,t=3 or m=9216,t=4 or m=7168,t=5, each \
         with p=1"
    )]
    TooCheap,
    #[error("is beyond the maximum of m={MAX_MEMORY_KIB}, t={MAX_PASSES} and p={MAX_LANES}")]
    TooCostly,
}

impl Cost {
    /// 19 MiB, 2 passes, 1 lane: OWASP's choice of those with the least time.
    pub const DEFAULT: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

    pub(super) fn of(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    /// Returns true if it is beyond the maximum that can be configured.
    pub(super) fn is_excessive(self) -> bool {
        self.memory_kib > MAX_MEMORY_KIB || self.passes > MAX_PASSES || self.lanes > MAX_LANES
    }

    /// Argon2id at this cost.
    ///
    /// # Panics
    ///
    /// Panics if the cost is beyond argon2's own limits. A parsed cost never is.
    pub(super) fn argon2(self) -> Argon2<'static> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, None);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("the cost is within argon2's limits"))
    }

    /// The cost that takes about `wanted`, given that this one takes `taken`: first more memory, then more passes. Stays
    /// within the limits.
    fn scaled(self, taken: Duration, wanted: Duration) -> Self {
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        let wanted_work = u128::from(work) * wanted.as_nanos() / taken.as_nanos().max(1);
        let passes =
            Self::DEFAULT.passes.max(u32::try_from(wanted_work / u128::from(MAX_MEMORY_KIB)).unwrap_or(u32::MAX));
        let memory_kib = u32::try_from(wanted_work / u128::from(passes)).unwrap_or(u32::MAX) / 1024 * 1024;
        Self {
            memory_kib: memory_kib.clamp(Self::DEFAULT.memory_kib, MAX_MEMORY_KIB),
            passes: passes.min(MAX_PASSES),
            lanes: Self::DEFAULT.lanes,
        }
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.memory_kib, self.passes, self.lanes)
    }
}

impl FromStr for Cost {
    type Err = InvalidCost;

    fn from_str(text: &str) -> Result<Self, InvalidCost> {
        let values: Option<Vec<u32>> = ["m=", "t=", "p="]
            .iter()
            .zip(text.split(','))
            .map(|(name, part)| part.trim().strip_prefix(name)?.parse().ok())
            .collect();
        let Some(&[memory_kib, passes, lanes]) = values.as_deref().filter(|_| text.split(',').count() == 3) else {
            return Err(InvalidCost::Malformed);
        };
        let cost = Self { memory_kib, passes, lanes };
        if cost.is_excessive() {
            return Err(InvalidCost::TooCostly);
        }
        let least = MIN_MEMORY_KIB.iter().find(|(least_passes, _)| passes >= *least_passes);
        if lanes == 0 || least.is_none_or(|(_, least)| memory_kib < *least) {
            return Err(InvalidCost::TooCheap);
        }
        Ok(cost)
    }
}

/// A measurement of the configured cost, and of one that takes as long as advised, if the configured one does not.
#[derive(Debug, PartialEq, Eq)]
pub struct Calibration {
    pub configured: (Cost, Duration),
    pub advised: Option<(Cost, Duration)>,
}

impl Calibration {
    /// Calibrates with `measure`, which returns how long one hash takes.
    pub fn new(configured: Cost, mut measure: impl FnMut(Cost) -> Duration) -> Self {
        let taken = measure(configured);
        if ADVISED.contains(&taken) {
            return Self { configured: (configured, taken), advised: None };
        }
        let mut advised = (configured, taken);
        // The time is not quite proportional: more memory misses the processor's caches more often.
        for _ in 0..3 {
            let (cost, taken) = advised;
            let cost = cost.scaled(taken, TARGET);
            advised = (cost, measure(cost));
            if ADVISED.contains(&advised.1) {
                break;
            }
        }
        Self { configured: (configured, taken), advised: Some(advised) }
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cost, taken) = self.configured;
        let advised = format!("{} to {} ms are advised", ADVISED.start().as_millis(), ADVISED.end().as_millis());
        write!(f, "{cost} takes {} ms on this machine; {advised}", taken.as_millis())?;
        match self.advised {
            None => Ok(()),
            Some((other, taken)) => {
                write!(f, ": use --password-cost {other}, which takes {} ms", taken.as_millis())?;
                write!(f, " and {} MiB for each password that is being hashed", other.memory_kib.div_ceil(1024))
            }
        }
    }
}

/// Measures how long one hash takes: the shortest of three, which other work has delayed least.
pub fn measure(cost: Cost, stopwatch: &impl Stopwatch) -> Duration {
    let argon2 = cost.argon2();
    let hash = || {
        let (start, mut output) = (stopwatch.now(), [0; 32]);
        argon2.hash_password_into(b"a password to measure", &[0; 16], &mut output).expect("the lengths are valid");
        stopwatch.now().since(start)
    };
    [hash(), hash(), hash()].into_iter().min().expect("three times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_read_as_it_is_written() {
        for text in ["m=19456,t=2,p=1", "m=47104,t=1,p=1", "m=7168,t=5,p=1", "m=65536,t=3,p=4", "m=262144,t=16,p=4"] {
            assert_eq!(text.parse::<Cost>().map(|cost| cost.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Cost::default().to_string().parse(), Ok(Cost::default()));
    }

    #[test]
    fn costs_below_the_recommendations_or_beyond_the_maximum_are_refused() {
        use InvalidCost::{Malformed, TooCheap, TooCostly};
        for (text, error) in [
            ("", Malformed),
            ("19456", Malformed),
            ("t=2,m=19456,p=1", Malformed),
            ("m=19456,t=2", Malformed),
            ("m=19456,t=2,p=1,p=1", Malformed),
            ("m=-1,t=2,p=1", Malformed),
            ("m=19456,t=1,p=1", TooCheap),
            ("m=19455,t=2,p=1", TooCheap),
            ("m=7167,t=16,p=1", TooCheap),
            ("m=19456,t=0,p=1", TooCheap),
            ("m=19456,t=2,p=0", TooCheap),
            ("m=262145,t=1,p=1", TooCostly),
            ("m=19456,t=17,p=1", TooCostly),
            ("m=65536,t=3,p=5", TooCostly),
        ] {
            assert_eq!(text.parse::<Cost>(), Err(error), "{text}");
        }
    }

    /// A machine on which a mebibyte and pass takes this long.
    fn machine(per_mebibyte: Duration) -> impl FnMut(Cost) -> Duration {
        move |cost| per_mebibyte * (cost.memory_kib / 1024) * cost.passes
    }

    #[test]
    fn calibration_finds_a_cost_of_50_to_100_ms_on_fast_and_slow_machines() {
        for micros in [20, 60, 200, 500, 1300, 2600] {
            let found = Calibration::new(Cost::DEFAULT, machine(Duration::from_micros(micros)));
            let (cost, taken) = found.advised.unwrap_or(found.configured);
            assert!(ADVISED.contains(&taken), "{micros}: {found:?}");
            assert_eq!(cost.to_string().parse(), Ok(cost), "it can be configured");
        }
    }

    #[test]
    fn calibration_keeps_a_cost_that_takes_long_enough_and_never_goes_below_the_minimum() {
        let found = Calibration::new(Cost::DEFAULT, machine(Duration::from_micros(2000)));
        assert_eq!(found.advised, None);
        let slow =
            Calibration::new(Cost { memory_kib: 64 * 1024, ..Cost::DEFAULT }, machine(Duration::from_millis(10)));
        assert_eq!(slow.advised.map(|(cost, _)| cost), Some(Cost::DEFAULT));
    }
}
