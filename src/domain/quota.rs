//! Rate limits: the generic cell rate algorithm (ITU-T I.371).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::time::Timestamp;

/// A rate: `burst` tokens immediately, then one per `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub burst: u32,
    pub interval: Duration,
}

impl Quota {
    /// `factor` times the rate and the burst.
    pub fn times(self, factor: u32) -> Self {
        Self { burst: self.burst * factor, interval: self.interval / factor }
    }
}

/// Takes a token from the bucket with this theoretical arrival time. All backends decide by this function.
///
/// Returns the new arrival time, or the time until a token is free. That time never exceeds the refill of a whole bucket,
/// even if the clock was set back.
pub fn take(arrival: Timestamp, quota: Quota, now: Timestamp) -> Result<Timestamp, Duration> {
    let full = quota.interval.saturating_mul(quota.burst);
    let arrival = arrival.clamp(now, now.plus(full));
    let ahead = arrival.since(now);
    let allowed = full.saturating_sub(quota.interval);
    if ahead > allowed { Err(ahead - allowed) } else { Ok(arrival.plus(quota.interval)) }
}

/// The network that one client is assumed to own: an IPv4 address or an IPv6 /64, represented by its first address.
pub fn client_network(address: IpAddr) -> IpAddr {
    ipv6_network(address, 64)
}

/// The IPv6 network with a prefix of `bits`, which is 1 to 128, represented by its first address; an IPv4 address itself.
pub fn ipv6_network(address: IpAddr, bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - bits))).into(),
    }
}

/// Rounds up to whole seconds, since a retry before the end of the wait would be refused.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_allows_its_burst_and_then_one_token_per_interval() {
        let quota = Quota { burst: 3, interval: Duration::from_secs(10) };
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
    fn ipv6_network_is_one_client_and_an_ipv4_address_another() {
        let network = |text: &str, bits| ipv6_network(text.parse().unwrap(), bits).to_string();
        assert_eq!(client_network("2001:db8:1:2ff:3::4".parse().unwrap()).to_string(), "2001:db8:1:2ff::");
        assert_eq!(network("2001:db8:1:2ff:3::4", 56), "2001:db8:1:200::");
        assert_eq!(network("2001:db8:1:2ff:3::4", 48), "2001:db8:1::");
        assert_eq!(network("::ffff:192.0.2.7", 48), "192.0.2.7");
    }

    #[test]
    fn wait_is_bounded_when_the_clock_is_set_back() {
        let quota = Quota { burst: 3, interval: Duration::from_secs(10) };
        let now = Timestamp::from_millis(1_000_000);
        let arrival = now.plus(Duration::from_secs(3600));
        assert_eq!(take(arrival, quota, now), Err(Duration::from_secs(10)));
    }
}
