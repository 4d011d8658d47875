//! Rate limits in bounded memory, for one instance.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use crate::domain::quota::{Quota, take};
use crate::domain::time::Timestamp;

const SHARDS: usize = 16;
/// All sources together take some 8 MB, besides what the keys of a limiter allocate.
const MAX_SOURCES_PER_SHARD: usize = 8_192;

/// Counts by source, for the 131,072 sources that were counted last.
///
/// A source that is counted again before half the cache is filled with new sources moves to the other half, and stays
/// there while it goes on. So a source cannot reset its count by a flood from other addresses.
pub struct Limiter<K> {
    shards: [Mutex<Sources<K>>; SHARDS],
    hasher: RandomState,
}

/// The theoretical arrival time of each source; see [`take`].
type Sources<K> = Cache<K, Timestamp, UnitWeighter, RandomState>;

impl<K: Eq + Hash> Default for Limiter<K> {
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

impl<K: Eq + Hash> Limiter<K> {
    /// Counts an attempt of `source`. If it was one too many, returns how long the source should wait.
    pub fn count<Q>(&self, source: &Q, quota: Quota, now: Timestamp) -> Option<Duration>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut shard = self.shard(source);
        // Looking it up marks the source as in use, also when it is refused.
        if let Some(mut arrival) = shard.get_mut(source) {
            return match take(*arrival, quota, now) {
                Ok(next) => {
                    *arrival = next;
                    None
                }
                Err(wait) => Some(wait),
            };
        }
        let taken = take(Timestamp::default(), quota, now);
        shard.insert(source.to_owned(), taken.unwrap_or_default());
        taken.err()
    }

    /// Takes back one that was counted.
    pub fn uncount<Q>(&self, source: &Q, quota: Quota)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(mut arrival) = self.shard(source).get_mut(source) {
            *arrival = arrival.minus(quota.interval);
        }
    }

    /// Whether the next attempt of `source` would be one too many.
    pub fn is_exhausted<Q>(&self, source: &Q, quota: Quota, now: Timestamp) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let arrival = self.shard(source).peek(source).copied().unwrap_or_default();
        take(arrival, quota, now).is_err()
    }

    fn shard<Q: Hash + ?Sized>(&self, source: &Q) -> MutexGuard<'_, Sources<K>> {
        let hash = self.hasher.hash_one(source) as usize;
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const QUOTA: Quota = Quota { burst: 1_000, interval: Duration::from_millis(1) };

    #[test]
    fn a_source_has_a_burst_and_then_a_rate() {
        let limiter: Limiter<u32> = Limiter::default();
        assert!((0..QUOTA.burst).all(|_| limiter.count(&1, QUOTA, NOW).is_none()));
        assert!(limiter.is_exhausted(&1, QUOTA, NOW));
        assert_eq!(limiter.count(&1, QUOTA, NOW), Some(QUOTA.interval));
        assert_eq!(limiter.count(&2, QUOTA, NOW), None, "another source has its own count");
        let later = NOW.plus(QUOTA.interval);
        assert_eq!(limiter.count(&1, QUOTA, later), None);
        assert!(limiter.count(&1, QUOTA, later).is_some());
        limiter.uncount(&1, QUOTA);
        assert_eq!(limiter.count(&1, QUOTA, later), None);
    }

    #[test]
    fn a_million_sources_take_bounded_memory() {
        let limiter: Limiter<u32> = Limiter::default();
        for n in 0..1_000_000 {
            limiter.count(&n, QUOTA, NOW);
        }
        for shard in &limiter.shards {
            assert!(shard.lock().unwrap().len() <= MAX_SOURCES_PER_SHARD);
        }
    }

    #[test]
    fn a_source_that_goes_on_is_not_evicted_by_a_flood_of_others() {
        let limiter: Limiter<u32> = Limiter::default();
        assert!((0..QUOTA.burst).all(|_| limiter.count(&0, QUOTA, NOW).is_none()));
        for n in 1..500_000 {
            limiter.count(&n, QUOTA, NOW);
            if n % 1_000 == 0 {
                assert!(limiter.count(&0, QUOTA, NOW).is_some());
            }
        }
    }
}
