//! The domain: systems, keys, operators, sessions and audit entries, and the rules for changing them.
//!
//! Nothing here is async, does input or output, or depends on a framework. Time and randomness are arguments.

/// Serializes a newtype of a byte array as a string of hex digits: lower case when written, either case when read.
macro_rules! serialize_as_hex {
    ($name:ident, $error:literal) => {
        impl From<$name> for String {
            fn from(bytes: $name) -> String {
                hex::encode(bytes.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let mut bytes = Self([0; _]);
                hex::decode_to_slice(text, &mut bytes.0).map_err(|_| $error)?;
                Ok(bytes)
            }
        }
    };
}

pub mod actors;
pub mod audit;
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
