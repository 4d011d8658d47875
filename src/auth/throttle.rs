//! How often one may fail to sign in: per account and address, per account, and per address.
//!
//! An attempt takes a token of each bucket before the password is looked at, so that parallel guesses are counted
//! too; a right password gives them back. The buckets are the store's, shared by every instance. None locks an
//! account: the owner, from another address, waits for a tenth of a minute at most.
//!
//! The store is told the digest of a username alone: people type their password into the wrong field.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::operators::Username;
use crate::domain::quota::{Quota, client_network};
use crate::domain::secrets::DerivedKey;

/// One address, one account.
const ACCOUNT_FROM_ADDRESS: Quota = Quota { burst: 10, every: Duration::from_secs(30) };
/// One account from everywhere: bounds guesses that come from many addresses.
const ACCOUNT: Quota = Quota { burst: 100, every: Duration::from_secs(6) };
/// One address, any account.
const ADDRESS: Quota = Quota { burst: 50, every: Duration::from_secs(3) };

/// The buckets that an attempt is counted in.
pub fn buckets(key: &DerivedKey, username: &str, address: Option<IpAddr>) -> [(String, Quota); 3] {
    // What is no username has no account; attempts with it are counted together.
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
    fn an_ipv6_network_is_one_party() {
        let of = |address: &str| buckets_of("admin", Some(address.parse().unwrap()))[2].clone();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[test]
    fn an_account_is_one_however_it_is_spelt() {
        assert_eq!(buckets_of("Admin", None)[1], buckets_of("admin", None)[1]);
        assert_ne!(buckets_of("admin", None)[1], buckets_of("admins", None)[1]);
    }
}
