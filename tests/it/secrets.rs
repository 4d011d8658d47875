//! Secrets are compared in constant time: their types can neither be compared with `==`, nor printed or serialized, and
//! the code that takes the text out of them does not compare it either.

use std::fmt::Display;
use std::hash::Hash;

use keymark::domain::keys::{ApiKey, PresentedKey};
use keymark::domain::operators::Password;
use keymark::domain::secrets::{DerivedKey, DerivedKeys, Keyring, RootSecret};
use keymark::domain::sessions::SessionSecret;
use keymark::domain::signatures::SigningKey;
use keymark::http::verify::{Access, VerifierToken};
use serde::Serialize;

use crate::layers::sources;

/// Implemented once by every type, and again for each trait that a secret must not have. The parameter is inferred only
/// if there is one implementation.
trait Lacks<Trait> {
    const HOLDS: () = ();
}

struct Anything;
struct Equality;
struct EqualityWithText;
struct EqualityWithBytes;
struct Hashing;
struct Printing;
struct Serialization;

impl<T: ?Sized> Lacks<Anything> for T {}
impl<T: ?Sized + PartialEq> Lacks<Equality> for T {}
impl<T: ?Sized + PartialEq<str>> Lacks<EqualityWithText> for T {}
impl<T: ?Sized + PartialEq<[u8]>> Lacks<EqualityWithBytes> for T {}
impl<T: ?Sized + Hash> Lacks<Hashing> for T {}
impl<T: ?Sized + Display> Lacks<Printing> for T {}
impl<T: ?Sized + Serialize> Lacks<Serialization> for T {}

/// Fails to compile with "type annotations needed" if one of the types has one of the traits above.
macro_rules! secrets {
    ($($type:ident $(<$lifetime:lifetime>)?),+ $(,)?) => {
        const SECRETS: &[&str] = &[$(stringify!($type)),+];
        $(const _: () = <$type$(<$lifetime>)? as Lacks<_>>::HOLDS;)+
    };
}

secrets![
    ApiKey,
    PresentedKey<'static>,
    Password,
    SessionSecret,
    RootSecret,
    DerivedKey,
    DerivedKeys,
    Keyring,
    SigningKey,
    VerifierToken,
    Access,
];

/// Types that wipe a secret, which no client presents, so that nothing is compared with it.
const NEVER_PRESENTED: [&str; 4] = ["Config", "StoreConfig", "Target", "TlsContents"];

/// The name and the definition of each struct and enum.
fn definitions(code: &str) -> Vec<(&str, &str)> {
    let starts = ["struct ", "enum "]
        .iter()
        .flat_map(|keyword| code.match_indices(keyword).map(move |(at, _)| at + keyword.len()));
    let definition = |start: usize| {
        let name_end = code[start..].find(|c: char| !c.is_alphanumeric() && c != '_')? + start;
        let body = code[name_end..].find([';', '{'])? + name_end;
        let end = if code[body..].starts_with('{') { code[body..].find("\n}")? + body } else { body };
        Some((&code[start..name_end], &code[name_end..end]))
    };
    starts.filter_map(definition).collect()
}

#[test]
fn every_type_that_wipes_itself_is_checked_here() {
    let sources = sources();
    let wiped = sources.iter().flat_map(|source| definitions(&source.code));
    let wiped: Vec<_> = wiped.filter(|(_, body)| body.contains("Zeroizing<")).map(|(name, _)| name).collect();
    assert!(wiped.contains(&"ApiKey") && wiped.contains(&"DerivedKey"), "{wiped:?}");
    for name in wiped {
        assert!(SECRETS.contains(&name) || NEVER_PRESENTED.contains(&name), "add {name} to the list of secrets");
    }
}

#[test]
fn no_text_of_a_secret_is_compared_with_an_operator() {
    let mut taken = 0;
    for source in sources() {
        let code = source.code.split("#[cfg(test)]\nmod tests").next().expect("a first part");
        for statement in code.split([';', '{', '}']) {
            if [".expose()", ".encode()", ".mac(", "VERIFIER_TOKEN"].iter().any(|call| statement.contains(call)) {
                taken += 1;
                for comparison in ["==", "!=", ".eq(", ".ne(", ".cmp(", "starts_with", "contains(", "strip_prefix"] {
                    assert!(!statement.contains(comparison), "{}: {statement}", source.path.display());
                }
            }
        }
    }
    assert!(taken > 10, "{taken}");
}
