//! The root secret and what is derived from it.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Fewest bytes of a root secret.
pub const ROOT_SECRET_BYTES: usize = 32;

/// The one secret of a deployment, its bytes as they are. Prints nothing, and is wiped when dropped.
pub struct RootSecret(Zeroizing<Vec<u8>>);

/// The secret has fewer than [`ROOT_SECRET_BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretTooShort;

impl RootSecret {
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretTooShort> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < ROOT_SECRET_BYTES { Err(SecretTooShort) } else { Ok(Self(bytes)) }
    }

    fn derive(&self, purpose: &str) -> DerivedKey {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.as_bytes(), key.as_mut())
            .expect("32 bytes are within HKDF-SHA-256's limit of 8160");
        DerivedKey::new(key)
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(…)")
    }
}

/// A key of 256 bits derived by HKDF-SHA-256 (RFC 5869) from the root secret, for one purpose.
#[derive(Clone)]
pub struct DerivedKey {
    bytes: Zeroizing<[u8; 32]>,
    /// HMAC with the key already in it, which saves half of its work on a short text. Wipes itself.
    keyed: Hmac<Sha256>,
}

impl DerivedKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let keyed = Hmac::new_from_slice(bytes.as_ref()).expect("HMAC takes a key of any length");
        Self { bytes, keyed }
    }

    /// HMAC-SHA-256 (RFC 2104) of the parts, one after the other.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.keyed(parts).finalize().into_bytes().into()
    }

    /// Whether `tag` is the first bytes of [`mac`](Self::mac) of the parts; takes the same time for every tag.
    pub fn verifies(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.keyed(parts).verify_truncated_left(tag).is_ok()
    }

    fn keyed(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }

    /// The bytes themselves: only for a library that does the keyed operation on its own.
    pub fn expose(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(…)")
    }
}

/// Tells root secrets apart without saying anything about them: 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The keys that one root secret gives, each for its own purpose.
#[derive(Clone, Debug)]
pub struct DerivedKeys {
    pub fingerprint: Fingerprint,
    /// Under which API keys are digested.
    pub pepper: DerivedKey,
    /// Signs session tokens.
    pub tokens: DerivedKey,
    /// Authenticates cursors.
    pub cursors: DerivedKey,
    /// Hides the accounts that sign-ins are counted for.
    pub attempts: DerivedKey,
}

impl DerivedKeys {
    pub fn of(secret: &RootSecret) -> Self {
        let fingerprint = secret.derive("keymark/v1/fingerprint");
        Self {
            fingerprint: Fingerprint(hex::encode(&fingerprint.bytes[..8])),
            pepper: secret.derive("keymark/v1/pepper"),
            tokens: secret.derive("keymark/v1/tokens"),
            cursors: secret.derive("keymark/v1/cursors"),
            attempts: secret.derive("keymark/v1/attempts"),
        }
    }
}

/// The keys in use: those of the current root secret, which everything new is made with, then those of the
/// previous ones, which still verify what was made with them.
#[derive(Clone, Debug)]
pub struct Keyring {
    current: DerivedKeys,
    previous: Vec<DerivedKeys>,
}

impl Keyring {
    pub fn new(current: &RootSecret, previous: &[RootSecret]) -> Self {
        Self { current: DerivedKeys::of(current), previous: previous.iter().map(DerivedKeys::of).collect() }
    }

    pub fn current(&self) -> &DerivedKeys {
        &self.current
    }

    /// The current keys first.
    pub fn iter(&self) -> impl Iterator<Item = &DerivedKeys> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_key_of_its_own_and_none_is_printed() {
        let keys = DerivedKeys::of(&RootSecret::new(vec![7; 32]).unwrap());
        let all = [&keys.pepper, &keys.tokens, &keys.cursors, &keys.attempts];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| one.expose() != other.expose()));
        }
        let printed = format!("{keys:?} {:?}", RootSecret::new(vec![b'x'; 40]).unwrap());
        assert!(printed.contains("DerivedKey(…)") && printed.contains("RootSecret(…)") && !printed.contains("xxx"));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(RootSecret::new(vec![0; 31]).is_err());
    }

    #[test]
    fn hmac_is_the_one_of_the_standard() {
        // RFC 4231, test case 2, with the key padded by zeros, which HMAC does itself.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let tag = DerivedKey::new(Zeroizing::new(key)).mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
