//! Limits on failed sign-ins: per account and address, per account, and per address.
//!
//! An attempt takes a token from each bucket before the password is compared, so that parallel guesses are counted too. A
//! correct password returns the tokens. The buckets are in the store, shared by all instances. No account is locked: its
//! owner, from another address, waits for 6 seconds at most.
//!
//! The store gets a digest of the username, since people sometimes type their password into the wrong field.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::operators::Username;
use crate::domain::quota::{Quota, client_network};
use crate::domain::secrets::DerivedKey;

/// One account from one address.
const ACCOUNT_FROM_ADDRESS: Quota = Quota { burst: 10, interval: Duration::from_secs(30) };
/// One account from all addresses: limits distributed guessing.
const ACCOUNT: Quota = Quota { burst: 100, interval: Duration::from_secs(6) };
/// Any account from one address.
const ADDRESS: Quota = Quota { burst: 50, interval: Duration::from_secs(3) };

/// The buckets in which an attempt is counted.
pub fn buckets(key: &DerivedKey, username: &str, address: Option<IpAddr>) -> [(String, Quota); 3] {
    // Texts that are not usernames share one bucket.
    let account = username
        .parse::<Username>()
        .map_or_else(|_| "?".to_owned(), |name| hex::encode(&key.mac(&[name.as_str().as_bytes()])[..16]));
    let address = address.map_or_else(|| "local".to_owned(), network);
    [
        (format!("sign-in/account/{account}/from/{address}"), ACCOUNT_FROM_ADDRESS),
        (format!("sign-in/account/{account}"), ACCOUNT),
        (format!("sign-in/address/{address}"), ADDRESS),
    ]
}

fn network(address: IpAddr) -> String {
    match client_network(address) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(first) => format!("{first}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secrets::{DerivedKeys, RootSecret};

    fn buckets_of(username: &str, address: Option<IpAddr>) -> [String; 3] {
        let key = DerivedKeys::of(&RootSecret::new(vec![1; 32]).unwrap()).attempts;
        buckets(&key, username, address).map(|(bucket, _)| bucket)
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |address: &str| buckets_of("admin", Some(address.parse().unwrap()))[2].clone();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[test]
    fn spellings_of_a_username_share_one_account() {
        assert_eq!(buckets_of("Admin", None)[1], buckets_of("admin", None)[1]);
        assert_ne!(buckets_of("admin", None)[1], buckets_of("admins", None)[1]);
    }
}
