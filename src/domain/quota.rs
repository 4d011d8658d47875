//! How often something may be tried: the generic cell rate algorithm (ITU-T I.371).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::time::Timestamp;

/// How many may pass: `burst` at once, then one every `every` (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub burst: u32,
    pub every: Duration,
}

/// The generic cell rate algorithm on a bucket's theoretical arrival time: decided in one place for every backend.
///
/// Gives the new arrival time when one may pass now, else how long until one may: never longer than a full bucket takes,
/// should the clock have been set back.
pub fn take(arrival: Timestamp, quota: Quota, now: Timestamp) -> Result<Timestamp, Duration> {
    let full = quota.every.saturating_mul(quota.burst);
    let arrival = arrival.clamp(now, now.plus(full));
    let ahead = arrival.since(now);
    let allowed = full.saturating_sub(quota.every);
    if ahead > allowed { Err(ahead - allowed) } else { Ok(arrival.plus(quota.every)) }
}

/// What one party is taken to hold: an IPv4 address, or a /64 of IPv6, named by its first address.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A wait in seconds, as clients are told it: rounded up, since an attempt before its end is in vain.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_an_interval() {
        let quota = Quota { burst: 3, every: Duration::from_secs(10) };
        let now = Timestamp::from_millis(1_000_000);
        let mut arrival = Timestamp::default();
        for _ in 0..3 {
            arrival = take(arrival, quota, now).unwrap();
        }
        assert_eq!(take(arrival, quota, now), Err(Duration::from_secs(10)));
        assert_eq!(take(arrival, quota, now.plus(Duration::from_secs(4))), Err(Duration::from_secs(6)));
        assert!(take(arrival, quota, now.plus(Duration::from_secs(10))).is_ok());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_full_bucket() {
        let quota = Quota { burst: 3, every: Duration::from_secs(10) };
        let now = Timestamp::from_millis(1_000_000);
        let arrival = now.plus(Duration::from_secs(3600));
        assert_eq!(take(arrival, quota, now), Err(Duration::from_secs(10)));
    }
}
