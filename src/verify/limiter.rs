//! How many bad keys one source may present before it is told to wait. Good keys are never counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::quota::{Quota, client_network, take};
use crate::domain::time::Timestamp;

/// Bad keys of one source: plenty for a gateway whose client was rolled out with an old key, nothing for somebody who
/// guesses.
const BAD_KEYS: Quota = Quota { burst: 20_000, every: Duration::from_millis(1) };
const SHARDS: usize = 16;
/// Sources that a shard remembers in each of its two generations: some 8 MB in all when every one is full.
const SOURCES: usize = 4_096;

/// Counts bad keys by source, in bounded memory.
pub struct Limiter {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

/// When the current generation is full it becomes the former one, and the one before is forgotten: of more sources than
/// there is room for, those stay that are seen again.
#[derive(Default)]
struct Shard {
    current: HashMap<IpAddr, Timestamp>,
    former: HashMap<IpAddr, Timestamp>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }
}

impl Limiter {
    /// Counts a bad key of `source`; how long it should wait, if that was one too many.
    pub fn count(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        let source = client_network(source);
        let mut shard = self.shard(source);
        let arrival = shard.arrival(source);
        let taken = take(arrival, BAD_KEYS, now);
        // One that is refused is remembered too: it is not forgotten while it goes on.
        shard.remember(source, taken.unwrap_or(arrival));
        taken.err()
    }

    /// Whether the next bad key of `source` would be one too many.
    pub fn is_exhausted(&self, source: IpAddr, now: Timestamp) -> bool {
        let source = client_network(source);
        take(self.shard(source).arrival(source), BAD_KEYS, now).is_err()
    }

    fn shard(&self, source: IpAddr) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(source) as usize;
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn arrival(&self, source: IpAddr) -> Timestamp {
        self.current.get(&source).or_else(|| self.former.get(&source)).copied().unwrap_or_default()
    }

    fn remember(&mut self, source: IpAddr, arrival: Timestamp) {
        if self.current.len() >= SOURCES && !self.current.contains_key(&source) {
            self.former = std::mem::take(&mut self.current);
        }
        self.current.insert(source, arrival);
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
    fn a_source_has_its_burst_and_then_so_many_a_second() {
        let limiter = Limiter::default();
        assert!((0..BAD_KEYS.burst).all(|_| limiter.count(v4(1), NOW).is_none()));
        assert!(limiter.is_exhausted(v4(1), NOW));
        assert_eq!(limiter.count(v4(1), NOW), Some(BAD_KEYS.every));
        assert_eq!(limiter.count(v4(2), NOW), None, "another source is not concerned");
        let later = NOW.plus(BAD_KEYS.every);
        assert_eq!(limiter.count(v4(1), later), None);
        assert!(limiter.count(v4(1), later).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let limiter = Limiter::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!((0..BAD_KEYS.burst).all(|_| limiter.count(of("2001:db8::1"), NOW).is_none()));
        assert!(limiter.is_exhausted(of("2001:db8::ffff"), NOW));
        assert!(!limiter.is_exhausted(of("2001:db8:0:1::1"), NOW));
    }

    #[test]
    fn a_million_sources_take_no_more_memory_than_there_is_room_for() {
        let limiter = Limiter::default();
        for n in 0..1_000_000 {
            limiter.count(v4(n), NOW);
        }
        for shard in &limiter.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.current.len() <= SOURCES && shard.former.len() <= SOURCES);
        }
    }

    #[test]
    fn a_source_that_goes_on_is_not_forgotten_among_many() {
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
