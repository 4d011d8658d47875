//! Limits on failed sign-ins. An attempt takes its tokens before the password is compared, so that parallel guesses are
//! counted too, and only a correct password returns them.
//!
//! Where an attempt comes from decides what limits it:
//!
//! - From a [device](super::devices), or from a network from which the operator has signed in with the current password:
//!   a bucket of its own, which nobody else can empty.
//! - From anywhere else: buckets of its network, and one of two of the account. The first attempts of each network have
//!   the larger one, `ACCOUNT_FIRST`, to which an attacker contributes only by new networks; further ones share
//!   `ACCOUNT`. So all guesses at an account are bounded, and yet its owner gets in from a new place while many
//!   networks guess. `docs/operations.md` states for how long that holds.
//!
//! Each instance counts in memory first, and refuses there without a look at the store; attempts that are refused count
//! as well. Those that pass are counted in the store, for all instances together.
//!
//! Buckets are named by keyed digests, since people sometimes type their password into the wrong field. Those of unknown
//! usernames and of networks are [`SHARED_SLOTS`] of each kind, so a flood cannot fill the store.

use std::net::IpAddr;
use std::time::Duration;

use super::devices::Device;
use super::limiter::Limiter;
use crate::domain::operators::{Operator, Username};
use crate::domain::quota::{Quota, ipv6_network};
use crate::domain::secrets::DerivedKey;
use crate::domain::sessions::SessionId;
use crate::domain::time::Timestamp;

/// One account from one network, one device, or one session.
const ACCOUNT_FROM_NETWORK: Quota = Quota { burst: 10, interval: Duration::from_secs(30) };
/// Any account from one network.
const NETWORK: Quota = Quota { burst: 50, interval: Duration::from_secs(3) };
/// Attempts at one account from one network that count as its first.
const FIRST_OF_NETWORK: Quota = Quota { burst: 2, interval: Duration::from_hours(4) };
/// One account, by the first attempts of all networks.
const ACCOUNT_FIRST: Quota = Quota { burst: 1_000, interval: Duration::from_secs(4) };
/// One account, by further attempts from all networks.
const ACCOUNT: Quota = Quota { burst: 100, interval: Duration::from_secs(6) };

/// The prefixes by which an IPv6 address is counted, and how many networks of the first one each stands for: a site may
/// have as many networks as it likes.
const PREFIXES: [(u32, u32); 3] = [(64, 1), (56, 2), (48, 4)];

/// Buckets of each kind that networks and unknown usernames share. To exhaust a given one takes as many attempts as to
/// exhaust nearly all.
pub const SHARED_SLOTS: usize = 1 << 16;

/// How long a network is known after a sign-in.
const KNOWN_NETWORK_LIFETIME: Duration = Duration::from_hours(90 * 24);
/// A sign-in renews a network that is known for less than this.
const KNOWN_NETWORK_RENEWAL: Duration = Duration::from_hours(60 * 24);

/// A bucket in the store and in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub quota: Quota,
}

/// What limits an attempt from a place that is not known: all of `common`, and either the first two of the others or the
/// third.
#[derive(Debug)]
pub struct Stranger {
    pub common: Vec<Bucket>,
    pub first_of_network: Bucket,
    pub first: Bucket,
    pub further: Bucket,
}

/// The answer of the limits in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    Passed,
    /// The attempt passes only from a known network: a network around it is exhausted.
    PassedIfKnown(Duration),
    Limited(Duration),
}

pub struct Throttle {
    key: DerivedKey,
    memory: Limiter<String>,
}

impl Throttle {
    pub fn new(key: DerivedKey) -> Self {
        Self { key, memory: Limiter::default() }
    }

    /// The buckets of an attempt in memory, before it is known whether the username exists: for each prefix, those of the
    /// account from the network, and of the network.
    pub fn local(&self, username: &str, address: Option<IpAddr>) -> Vec<Bucket> {
        // Texts that are not usernames count as one.
        let name = username.parse::<Username>().ok();
        let name = name.as_ref().map_or("?", Username::as_str);
        let of = |(network, factor): (String, u32)| {
            [
                self.named("local/from", &[name, &network], ACCOUNT_FROM_NETWORK.times(factor)),
                self.named("local/network", &[&network], NETWORK.times(factor)),
            ]
        };
        networks(address).into_iter().flat_map(of).collect()
    }

    /// Counts an attempt in memory, whether or not it passes.
    pub fn count(&self, buckets: &[Bucket], now: Timestamp) -> Local {
        let waits: Vec<_> =
            buckets.iter().map(|bucket| self.memory.count(bucket.name.as_str(), bucket.quota, now)).collect();
        // The first two are of the narrowest network.
        match (waits.iter().take(2).flatten().max(), waits.iter().flatten().max()) {
            (None, None) => Local::Passed,
            (None, Some(wait)) => Local::PassedIfKnown(*wait),
            (Some(_), wait) => Local::Limited(wait.copied().unwrap_or_default()),
        }
    }

    /// Takes back an attempt with the correct password.
    pub fn uncount(&self, buckets: &[Bucket]) {
        for bucket in buckets {
            self.memory.uncount(bucket.name.as_str(), bucket.quota);
        }
    }

    pub fn device(&self, device: &Device) -> Bucket {
        self.named("device", &[&hex::encode(device.id())], ACCOUNT_FROM_NETWORK)
    }

    /// The bucket of a signed-in operator who enters the password again.
    pub fn session(&self, session: SessionId) -> Bucket {
        self.named("session", &[&String::from(session)], ACCOUNT_FROM_NETWORK)
    }

    /// The row of the store that says until when the network is known to be the operator's. For an unknown username it
    /// is one that does not exist.
    pub fn known_network(&self, username: &str, operator: Option<&Operator>, address: Option<IpAddr>) -> String {
        let network = network_name(address);
        let account = match operator {
            Some(operator) => format!("{}.{}", operator.id, operator.password_version),
            None => format!("?{username}"),
        };
        self.named("known", &[&account, &network], ACCOUNT_FROM_NETWORK).name
    }

    /// From when on a sign-in should renew the network, and until when it then is known.
    pub fn known_network_times(now: Timestamp) -> (Timestamp, Timestamp) {
        (now.plus(KNOWN_NETWORK_RENEWAL), now.plus(KNOWN_NETWORK_LIFETIME))
    }

    /// The buckets of an attempt from a known network.
    pub fn from_known_network(&self, operator: &Operator, address: Option<IpAddr>) -> Vec<Bucket> {
        let network = network_name(address);
        let account = operator.id.to_string();
        vec![
            self.named("from", &[&account, &network], ACCOUNT_FROM_NETWORK),
            self.slot("network", &[&network], NETWORK),
        ]
    }

    /// The buckets of an attempt from anywhere else.
    pub fn from_stranger(&self, username: &str, operator: Option<&Operator>, address: Option<IpAddr>) -> Stranger {
        let networks = networks(address);
        let (widest, _) = &networks[networks.len() - 1];
        let id = operator.map(|operator| operator.id.to_string());
        let account = |kind, parts: &[&str], quota| match &id {
            Some(id) => self.named(kind, &[&[id.as_str()], parts].concat(), quota),
            None => self.slot(kind, &[&[username], parts].concat(), quota),
        };
        let common = networks.iter().flat_map(|(network, factor)| {
            [
                account("from", &[network], ACCOUNT_FROM_NETWORK.times(*factor)),
                self.slot("network", &[network], NETWORK.times(*factor)),
            ]
        });
        Stranger {
            common: common.collect(),
            first_of_network: account("first-of-network", &[widest], FIRST_OF_NETWORK),
            first: account("first", &[], ACCOUNT_FIRST),
            further: account("further", &[], ACCOUNT),
        }
    }

    /// A bucket that these parts have for themselves.
    fn named(&self, kind: &str, parts: &[&str], quota: Quota) -> Bucket {
        Bucket { name: format!("sign-in/{kind}/{}", hex::encode(&self.digest(kind, parts)[..16])), quota }
    }

    /// One of the [`SHARED_SLOTS`] of a kind.
    fn slot(&self, kind: &str, parts: &[&str], quota: Quota) -> Bucket {
        Bucket { name: format!("sign-in/{kind}/?{}", hex::encode(&self.digest(kind, parts)[..2])), quota }
    }

    fn digest(&self, kind: &str, parts: &[&str]) -> [u8; 32] {
        // Unambiguous: no network, id or username contains a zero byte, and other texts come last in none but `?`.
        let text = parts.join("\0");
        self.key.mac(&[kind.as_bytes(), b"\0", text.as_bytes()])
    }
}

/// The narrowest network by which an address is counted.
pub fn network_name(address: Option<IpAddr>) -> String {
    networks(address).swap_remove(0).0
}

/// The networks by which an address is counted, and the factor of their quotas. The narrowest one first.
fn networks(address: Option<IpAddr>) -> Vec<(String, u32)> {
    match address {
        None => vec![("local".to_owned(), 1)],
        Some(address) => match address.to_canonical() {
            IpAddr::V4(address) => vec![(address.to_string(), 1)],
            address @ IpAddr::V6(_) => {
                PREFIXES.map(|(bits, factor)| (format!("{}/{bits}", ipv6_network(address, bits)), factor)).to_vec()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::ids::OperatorId;
    use crate::domain::operators::PasswordHash;
    use crate::domain::permissions::Permissions;
    use crate::domain::secrets::{DerivedKeys, RootSecret};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn throttle() -> Throttle {
        Throttle::new(DerivedKeys::of(&RootSecret::new(vec![1; 32]).unwrap()).attempts)
    }

    fn operator() -> Operator {
        let id = OperatorId::new(NOW, &mut StdRng::seed_from_u64(1));
        let hash = PasswordHash::from_phc(String::new());
        Operator::new(id, "acme".parse().unwrap(), "ada".parse().unwrap(), hash, Permissions::NONE, NOW)
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn names_of(Stranger { common, first_of_network, first, further }: Stranger) -> Vec<String> {
        common.into_iter().chain([first_of_network, first, further]).map(|bucket| bucket.name).collect()
    }

    #[test]
    fn ipv6_address_is_counted_in_three_networks_and_an_ipv4_address_alone() {
        let names = |text: &str| networks(address(text)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("2001:db8:1:2ff::5"), ["2001:db8:1:2ff::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
        assert_eq!(names("192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(names("::ffff:192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(networks(None), [("local".to_owned(), 1)]);
    }

    #[test]
    fn networks_of_one_site_share_its_quota() {
        let throttle = throttle();
        let passed = |network: u32| {
            let address = address(&format!("2001:db8:0:{network:x}::1"));
            throttle.count(&throttle.local("ada", address), NOW) == Local::Passed
        };
        assert_eq!(
            (0..65_536).step_by(256).filter(|network| passed(*network)).count(),
            40,
            "four times that of one network"
        );
    }

    #[test]
    fn known_network_passes_while_its_site_is_exhausted() {
        let throttle = throttle();
        for network in 1..1_000 {
            throttle.count(&throttle.local("ada", address(&format!("2001:db8:0:{network:x}::1"))), NOW);
        }
        let own = throttle.local("ada", address("2001:db8::1"));
        assert!(matches!(throttle.count(&own, NOW), Local::PassedIfKnown(_)));
        for _ in 1..ACCOUNT_FROM_NETWORK.burst {
            throttle.count(&own, NOW);
        }
        assert!(matches!(throttle.count(&own, NOW), Local::Limited(_)));
    }

    #[test]
    fn spellings_of_a_username_share_one_account_and_other_texts_another() {
        let throttle = throttle();
        let local = |username| throttle.local(username, None);
        assert_eq!(local("Admin"), local("admin"));
        assert_ne!(local("admin"), local("admins"));
        assert_eq!(local("no name!"), local("x\0y"));
    }

    #[test]
    fn unknown_usernames_and_networks_share_a_bounded_number_of_buckets() {
        let throttle = throttle();
        let mut names = std::collections::HashSet::new();
        for i in 0..300_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(i).into();
            names.extend(names_of(throttle.from_stranger(&format!("name-{i}"), None, Some(address))));
        }
        assert!(names.len() <= 5 * SHARED_SLOTS, "{}", names.len());
    }

    #[test]
    fn no_bucket_names_a_username_or_an_address() {
        let (throttle, ada) = (throttle(), operator());
        let stranger = throttle.from_stranger("ada", Some(&ada), address("192.0.2.7"));
        let mut names = names_of(stranger);
        names.extend(throttle.from_known_network(&ada, address("192.0.2.7")).into_iter().map(|bucket| bucket.name));
        for name in names {
            assert!(!name.contains("192.0.2.7") && !name.contains("ada") && !name.contains("op_"), "{name}");
        }
    }

    #[test]
    fn new_password_makes_networks_unknown() {
        let (throttle, ada) = (throttle(), operator());
        let known = |operator| throttle.known_network("ada", operator, address("192.0.2.7"));
        let changed = ada.with_password(PasswordHash::from_phc(String::new()), NOW);
        assert_ne!(known(Some(&ada)), known(Some(&changed)));
        assert_ne!(known(Some(&ada)), known(None));
    }
}
