//! Limits the bad keys that one source may present. Good keys are never counted.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use crate::domain::quota::{Quota, client_network, take};
use crate::domain::time::Timestamp;

/// Bad keys of one source: enough for a gateway whose client was rolled out with an old key, too few to guess a key.
const BAD_KEYS: Quota = Quota { burst: 20_000, interval: Duration::from_millis(1) };
const SHARDS: usize = 16;
/// All sources together take some 8 MB.
const MAX_SOURCES_PER_SHARD: usize = 8_192;

/// Counts bad keys by source, in bounded memory.
///
/// A source that presents another bad key before half the cache is filled with new sources moves to the other half, and
/// stays there while it goes on. So a source cannot reset its count by a flood of bad keys from other addresses.
pub struct Limiter {
    shards: [Mutex<Sources>; SHARDS],
    hasher: RandomState,
}

/// The theoretical arrival time of each source; see [`take`].
type Sources = Cache<IpAddr, Timestamp, UnitWeighter, RandomState>;

impl Default for Limiter {
    fn default() -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(MAX_SOURCES_PER_SHARD)
            .weight_capacity(MAX_SOURCES_PER_SHARD as u64)
            .hot_allocation(0.5)
            // Evicted sources that come back begin anew, so there is no need to recognize them.
            .ghost_allocation(0.0)
            .build()
            .expect("both capacities are set");
        let shard = |_| {
            let hasher = RandomState::new();
            Mutex::new(Sources::with_options(options.clone(), UnitWeighter, hasher, DefaultLifecycle::default()))
        };
        Self { shards: std::array::from_fn(shard), hasher: RandomState::new() }
    }
}

impl Limiter {
    /// Counts a bad key of `source`. If it was one too many, returns how long the source should wait.
    pub fn count(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        let source = client_network(source);
        let mut shard = self.shard(source);
        // Looking it up marks the source as in use, also when it is refused.
        if let Some(mut arrival) = shard.get_mut(&source) {
            return match take(*arrival, BAD_KEYS, now) {
                Ok(next) => {
                    *arrival = next;
                    None
                }
                Err(wait) => Some(wait),
            };
        }
        let taken = take(Timestamp::default(), BAD_KEYS, now);
        shard.insert(source, taken.unwrap_or_default());
        taken.err()
    }

    /// Whether the next bad key of `source` would be one too many.
    pub fn is_exhausted(&self, source: IpAddr, now: Timestamp) -> bool {
        let source = client_network(source);
        let arrival = self.shard(source).peek(&source).copied().unwrap_or_default();
        take(arrival, BAD_KEYS, now).is_err()
    }

    fn shard(&self, source: IpAddr) -> MutexGuard<'_, Sources> {
        let hash = self.hasher.hash_one(source) as usize;
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn v4(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn a_source_has_a_burst_and_then_a_rate() {
        let limiter = Limiter::default();
        assert!((0..BAD_KEYS.burst).all(|_| limiter.count(v4(1), NOW).is_none()));
        assert!(limiter.is_exhausted(v4(1), NOW));
        assert_eq!(limiter.count(v4(1), NOW), Some(BAD_KEYS.interval));
        assert_eq!(limiter.count(v4(2), NOW), None, "another source has its own count");
        let later = NOW.plus(BAD_KEYS.interval);
        assert_eq!(limiter.count(v4(1), later), None);
        assert!(limiter.count(v4(1), later).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let limiter = Limiter::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!((0..BAD_KEYS.burst).all(|_| limiter.count(of("2001:db8::1"), NOW).is_none()));
        assert!(limiter.is_exhausted(of("2001:db8::ffff"), NOW));
        assert!(!limiter.is_exhausted(of("2001:db8:0:1::1"), NOW));
    }

    #[test]
    fn a_million_sources_take_bounded_memory() {
        let limiter = Limiter::default();
        for n in 0..1_000_000 {
            limiter.count(v4(n), NOW);
        }
        for shard in &limiter.shards {
            assert!(shard.lock().unwrap().len() <= MAX_SOURCES_PER_SHARD);
        }
    }

    #[test]
    fn a_source_that_goes_on_is_not_evicted_by_a_flood_of_others() {
        let limiter = Limiter::default();
        assert!((0..BAD_KEYS.burst).all(|_| limiter.count(v4(0), NOW).is_none()));
        for n in 1..500_000 {
            limiter.count(v4(n), NOW);
            if n % 1_000 == 0 {
                assert!(limiter.count(v4(0), NOW).is_some());
            }
        }
    }
}
