//! Identifiers: a prefix for the kind, then a ULID, so that ids sort by time of creation.
//!
//! A ULID is 48 bits of milliseconds and 80 random bits in Crockford's base 32 (<https://github.com/ulid/spec>);
//! ids contain it in lower case.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt};
use serde::Serialize;
use ulid::Ulid;

use super::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct NotAnId;

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(into = "String")]
        pub struct $name(Ulid);

        deserialize_from_str!($name);

        impl $name {
            pub const PREFIX: &str = $prefix;

            /// A new id, which sorts by `now`.
            pub fn new(now: Timestamp, rng: &mut dyn CryptoRng) -> Self {
                Self(new_ulid(now, rng))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                write_ulid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(Self::PREFIX).ok_or(NotAnId).and_then(parse_ulid).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

prefixed_id!(SystemId, "sys_");
prefixed_id!(OperatorId, "op_");
prefixed_id!(
    /// Identifies a service token or a verifier token.
    TokenId,
    "tok_"
);
prefixed_id!(
    /// Generated before the commit. If the outcome of a commit is unknown, the store looks for an entry with the id.
    AuditEntryId,
    "aud_"
);
prefixed_id!(
    /// Identifies a request in logs, errors and audit entries.
    RequestId,
    "req_"
);

/// The id of an operator or a service token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum ActorId {
    Operator(OperatorId),
    Token(TokenId),
}

deserialize_from_str!(ActorId);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(id) => id.fmt(f),
            Self::Token(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ActorId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.parse().map(Self::Operator).or_else(|_| text.parse().map(Self::Token))
    }
}

impl From<ActorId> for String {
    fn from(id: ActorId) -> String {
        id.to_string()
    }
}

impl From<OperatorId> for ActorId {
    fn from(id: OperatorId) -> Self {
        Self::Operator(id)
    }
}

impl SystemId {
    /// The ULID, most significant byte first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Inverse of [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }
}

fn new_ulid(now: Timestamp, rng: &mut dyn CryptoRng) -> Ulid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    Ulid::from_parts(millis, rng.random())
}

fn write_ulid(ulid: Ulid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut buffer = [0; ulid::ULID_LEN];
    ulid.array_to_str(&mut buffer);
    buffer.make_ascii_lowercase();
    f.write_str(std::str::from_utf8(&buffer).map_err(|_| fmt::Error)?)
}

/// Accepts only the canonical spelling, so that no two texts are the same id.
fn parse_ulid(text: &str) -> Result<Ulid, NotAnId> {
    let canonical = text.len() == ulid::ULID_LEN
        && text.as_bytes()[0] <= b'7'
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z') && !matches!(b, b'i' | b'l' | b'o' | b'u'));
    if !canonical {
        return Err(NotAnId);
    }
    Ulid::from_string(text).map_err(|_| NotAnId)
}

/// A tenant's name: 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning with a letter or a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct TenantId(std::sync::Arc<str>);

deserialize_from_str!(TenantId);

impl TenantId {
    /// The tenant of the operator that the first start creates.
    pub const DEFAULT: &str = "default";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let well_formed = (1..=63).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if well_formed { Ok(Self(text.into())) } else { Err(NotAnId) }
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_a_round_trip() {
        let mut rng = StdRng::seed_from_u64(1);
        let early = SystemId::new(Timestamp::from_millis(1_000), &mut rng);
        let late = SystemId::new(Timestamp::from_millis(2_000), &mut rng);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().len(), "sys_".len() + 26);
        assert_eq!(SystemId::from_bytes(early.to_bytes()), early);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = SystemId::new(Timestamp::from_millis(1_000), &mut StdRng::seed_from_u64(1)).to_string();
        for other in
            [id.to_uppercase(), id.replace("sys_", "aud_"), format!("{id}0"), id[..29].to_owned(), String::new()]
        {
            assert_eq!(other.parse::<SystemId>(), Err(NotAnId), "{other}");
        }
        assert_eq!("sys_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<SystemId>(), Err(NotAnId));
    }

    #[test]
    fn tenant_names_are_restricted() {
        for good in ["default", "acme-2", "0", &"a".repeat(63)] {
            assert!(good.parse::<TenantId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "Acme", "a b", "a.b", "a$", &"a".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }
}
