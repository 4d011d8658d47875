//! The domain: systems, keys, operators, sessions and audit entries, and the rules for changing them.
//!
//! Nothing here is async, does input or output, or depends on a framework. Time and randomness are arguments.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

/// Serializes a newtype of a byte array as a string of hex digits: lower case when written, either case when read.
macro_rules! serialize_as_hex {
    ($name:ident, $error:literal) => {
        impl From<$name> for String {
            fn from(bytes: $name) -> String {
                hex::encode(bytes.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = Self([0; _]);
                hex::decode_to_slice(text, &mut bytes.0).map_err(|_| $error)?;
                Ok(bytes)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

/// Deserializes a type by its `FromStr`, without a copy of the text: rows have many of these.
macro_rules! deserialize_from_str {
    ($name:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::domain::FromText(std::marker::PhantomData))
            }
        }
    };
}

pub mod actors;
pub mod archives;
pub mod audit;
mod canonical_json;
pub mod changes;
pub mod checkpoints;
pub mod cursors;
pub mod exports;
pub mod external_ids;
pub mod ids;
pub mod keys;
pub mod leases;
pub mod operators;
pub mod pages;
pub mod passwords;
pub mod permissions;
pub mod quota;
pub mod refusal;
pub mod replays;
pub mod restores;
pub mod secrets;
pub mod sessions;
pub mod signatures;
pub mod system_lists;
pub mod system_names;
pub mod systems;
pub mod tenants;
pub mod texts;
pub mod time;
pub mod tokens;
pub mod usage;
pub mod verdict;

/// Visits a text that is parsed.
struct FromText<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> serde::de::Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
