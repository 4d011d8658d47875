//! API keys: how they are generated, parsed, digested and marked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::distr::Alphanumeric;
use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ids::{SystemId, TenantId};
use super::secrets::{DerivedKey, Fingerprint};
use super::time::Timestamp;

/// Random base-62 characters of a key: 43 · log2(62) ≥ 256 bits.
const SECRET_CHARACTERS: usize = 43;
/// Base-62 characters of the checksum: 62⁶ exceeds 2³².
const CHECKSUM_CHARACTERS: usize = 6;
const BODY_CHARACTERS: usize = SECRET_CHARACTERS + CHECKSUM_CHARACTERS;
const MAX_PREFIX_CHARACTERS: usize = 32;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The part of a key before the last underscore, by which people and secret scanners recognize it: 1 to 32 ASCII
/// letters, digits and underscores, beginning with a letter and not ending in an underscore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key prefix is 1 to {MAX_PREFIX_CHARACTERS} letters, digits and underscores, from a letter to a letter or digit"
)]
pub struct NotAPrefix;

impl FromStr for KeyPrefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        if is_prefix(text) { Ok(Self(text.to_owned())) } else { Err(NotAPrefix) }
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_prefix(text: &str) -> bool {
    (1..=MAX_PREFIX_CHARACTERS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.as_bytes()[0].is_ascii_alphabetic()
        && !text.ends_with('_')
}

/// A whole API key: `<prefix>_<43 random characters><6 characters of checksum>`, the characters in base 62.
///
/// `Debug` does not print it, and it is wiped when dropped. Only [`expose`](Self::expose) returns its text.
pub struct ApiKey(Zeroizing<String>);

/// The text does not have the format of a key, or its checksum is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed API key")]
pub struct Malformed;

impl ApiKey {
    /// A new key, with 256 random bits.
    pub fn generate(prefix: &KeyPrefix, rng: &mut dyn CryptoRng) -> Self {
        // Allocated once: growing would leave copies behind that are not wiped.
        let mut key = Zeroizing::new(String::with_capacity(prefix.0.len() + 1 + BODY_CHARACTERS));
        key.push_str(&prefix.0);
        key.push('_');
        for _ in 0..SECRET_CHARACTERS {
            key.push(char::from(rng.sample(Alphanumeric)));
        }
        let checksum = checksum(key.as_bytes());
        key.extend(checksum.iter().map(|b| char::from(*b)));
        Self(key)
    }

    /// The key's id in the store.
    pub fn digest(&self, pepper: &DerivedKey) -> KeyDigest {
        PresentedKey(&self.0).digest(pepper)
    }

    pub fn mark(&self) -> Mark {
        let bytes = self.0.as_bytes();
        let mut mark = [0; 4];
        mark.copy_from_slice(&bytes[bytes.len() - 4..]);
        Mark(mark)
    }

    /// The whole key, for the response that shows it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// A text that has the format of a key and a correct checksum. Whether the key exists is found by looking up its digest.
///
/// Borrows the text, since each verification creates one. `Debug` does not print it.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a>(&'a str);

impl<'a> PresentedKey<'a> {
    /// Parses a key with any valid prefix.
    pub fn parse(presented: &'a str) -> Result<Self, Malformed> {
        let (prefix, body) = presented.rsplit_once('_').ok_or(Malformed)?;
        let well_formed =
            is_prefix(prefix) && body.len() == BODY_CHARACTERS && body.bytes().all(|b| b.is_ascii_alphanumeric());
        if !well_formed {
            return Err(Malformed);
        }
        let (covered, check) = presented.as_bytes().split_at(presented.len() - CHECKSUM_CHARACTERS);
        if checksum(covered) != check {
            return Err(Malformed);
        }
        Ok(Self(presented))
    }

    /// HMAC-SHA-256 of the whole key under the pepper.
    pub fn digest(self, pepper: &DerivedKey) -> KeyDigest {
        KeyDigest(pepper.mac(&[self.0.as_bytes()]))
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey(…)")
    }
}

/// CRC-32/ISO-HDLC of `covered` in base 62, most significant digit first, padded with zeros.
fn checksum(covered: &[u8]) -> [u8; CHECKSUM_CHARACTERS] {
    let mut rest = crc32fast::hash(covered) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    digits
}

/// The keyed digest of an API key, which is its id in the store. Serialized as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct KeyDigest([u8; 32]);

deserialize_from_str!(KeyDigest);

impl KeyDigest {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

serialize_as_hex!(KeyDigest, "not a digest of 64 hex digits");

/// The last 4 characters of a key, by which people recognize it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Mark([u8; 4]);

deserialize_from_str!(Mark);

impl Mark {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a mark is ASCII by construction")
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> String {
        mark.as_str().to_owned()
    }
}

impl FromStr for Mark {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match <[u8; 4]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.is_ascii() => Ok(Self(bytes)),
            _ => Err("not a mark of 4 ASCII characters"),
        }
    }
}

impl TryFrom<String> for Mark {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What a live key is to its system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyRole {
    /// The newest key.
    Current,
    /// The key before the newest one, until the overlap of the rotation ends.
    Retiring,
}

impl KeyRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "CURRENT",
            Self::Retiring => "RETIRING",
        }
    }

    const fn is_current(&self) -> bool {
        matches!(self, Self::Current)
    }

    const fn current() -> Self {
        Self::Current
    }
}

/// How a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyEnd {
    /// An operator revoked it, or ended its overlap early.
    Revoked,
    /// Its expiry was reached.
    Expired,
    /// The overlap of its rotation was over.
    RotatedOut,
    /// Its system was deleted.
    SystemDeleted,
}

impl KeyEnd {
    /// Whether the key ended at a time that was set before.
    pub fn is_by_time(self) -> bool {
        matches!(self, Self::Expired | Self::RotatedOut)
    }
}

/// The row of a key in the store, by its digest. Contains all that a verdict needs, so that one look-up suffices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    pub digest: KeyDigest,
    pub tenant: TenantId,
    pub system: SystemId,
    /// The current name of the system, or its name when the key ended.
    pub system_name: super::system_names::SystemName,
    /// That of the system, like its name. Release 0.1 ignores it, and cannot replace the row of such a system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<super::external_ids::ExternalId>,
    pub mark: Mark,
    /// Starts at 1, and increases by one with each change.
    pub revision: u64,
    /// When the key ended: was revoked, expired, or its system deleted. Never reset.
    pub revoked_at: Option<Timestamp>,
    /// How it ended. `None` for a live key, and for one that release 0.1 revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<KeyEnd>,
    /// The root secret whose pepper made the digest. `None` if release 0.1 wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Fingerprint>,
    #[serde(default = "KeyRole::current", skip_serializing_if = "KeyRole::is_current")]
    pub role: KeyRole,
    /// From then on the key is refused, by each instance's own clock. For a retiring key, the end of the overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Since when its system is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// The last of [`EXPIRY_WARNING_DAYS`] that was logged for this expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned_days: Option<u8>,
}

/// Days before the expiry of a current key at which the audit log gets a warning.
pub const EXPIRY_WARNING_DAYS: [u8; 3] = [30, 7, 1];

impl Key {
    /// Returns true for a key that the first stored format cannot describe: an instance of release 0.1 would accept it
    /// when it must be refused.
    pub fn needs_second_format(&self) -> bool {
        self.revoked_at.is_none() && (self.expires_at.is_some() || self.suspended_at.is_some())
    }

    /// When the next entry about this key's expiry is due: a warning, or the expiry itself. `None` if none is, as for a
    /// key of a suspended system, which is refused anyway and keeps its keys.
    pub fn due_at(&self) -> Option<Timestamp> {
        let expires_at = self.expires_at.filter(|_| self.revoked_at.is_none() && self.suspended_at.is_none())?;
        let before = |days: u8| expires_at.minus(Duration::from_hours(24 * u64::from(days)));
        let next = EXPIRY_WARNING_DAYS.into_iter().find(|days| self.warned_days.is_none_or(|warned| *days < warned));
        Some(next.filter(|_| self.role.is_current()).map_or(expires_at, before))
    }

    /// The warning that is due at `now`: the days before the expiry. Of several that are due, only the last.
    pub fn due_warning(&self, now: Timestamp) -> Option<u8> {
        let due_at = self.due_at().filter(|due| *due <= now)?;
        let expires_at = self.expires_at.filter(|end| *end > now && due_at < *end)?;
        let is_due = |days: &u8| expires_at.since(now) <= Duration::from_hours(24 * u64::from(*days));
        EXPIRY_WARNING_DAYS.into_iter().rfind(is_due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::secrets::{DerivedKeys, RootSecret};
    use super::*;

    fn key() -> ApiKey {
        ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(7))
    }

    #[test]
    fn a_key_has_the_documented_format() {
        let key = key();
        let text = key.expose();
        assert_eq!(text.len(), "km_".len() + 43 + 6);
        assert!(text.starts_with("km_") && PresentedKey::parse(text).is_ok());
        assert_eq!(key.mark().as_str(), &text[text.len() - 4..]);
        let presented = PresentedKey::parse(text);
        assert_eq!(format!("{key:?} {presented:?}"), "ApiKey(…) Ok(PresentedKey(…))");
    }

    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        // CRC-32/ISO-HDLC of "123456789" is 0xCBF43926 (the check value of the CRC catalogue) = 3421780262.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        let (value, _) = b"3jZRME".iter().fold((0u64, ()), |(sum, ()), digit| {
            (sum * 62 + BASE62.iter().position(|b| b == digit).unwrap() as u64, ())
        });
        assert_eq!(value, 0xCBF4_3926);
    }

    #[test]
    fn any_valid_prefix_is_parsed() {
        for prefix in ["km", "a", "acme_live", "Acme2", &"p".repeat(32)] {
            let key = ApiKey::generate(&prefix.parse().unwrap(), &mut StdRng::seed_from_u64(1));
            assert!(PresentedKey::parse(key.expose()).is_ok(), "{prefix}");
        }
        for prefix in ["", "_a", "a_", "1a", "a-b", "é", &"p".repeat(33)] {
            assert_eq!(prefix.parse::<KeyPrefix>(), Err(NotAPrefix), "{prefix}");
        }
    }

    #[test]
    fn digests_depend_on_the_pepper_and_survive_a_round_trip() {
        let digest_under = |byte| key().digest(&DerivedKeys::of(&RootSecret::new(vec![byte; 32]).unwrap()).pepper);
        assert_ne!(digest_under(1), digest_under(2));
        assert_eq!(KeyDigest::try_from(String::from(digest_under(1))), Ok(digest_under(1)));
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(KeyDigest::try_from(bad.to_owned()).is_err());
        }
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_detected(at in 0usize..52, to in "[0-9A-Za-z_é -]") {
            let text = key().expose().to_owned();
            let mut typo: Vec<char> = text.chars().collect();
            typo[at] = to.chars().next().unwrap();
            let typo: String = typo.into_iter().collect();
            prop_assert_eq!(PresentedKey::parse(&typo).is_ok(), typo == text);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = PresentedKey::parse(&text);
        }
    }
}
