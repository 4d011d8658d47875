//! The root secret and the keys derived from it.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::signatures::{PublicKey, SigningKey};

pub const MIN_ROOT_SECRET_BYTES: usize = 32;

/// The secret of a deployment, used as raw bytes. `Debug` does not print it, and it is wiped when dropped.
pub struct RootSecret(Zeroizing<Vec<u8>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a root secret has at least {MIN_ROOT_SECRET_BYTES} bytes")]
pub struct RootSecretTooShort;

impl RootSecret {
    pub fn new(bytes: Vec<u8>) -> Result<Self, RootSecretTooShort> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < MIN_ROOT_SECRET_BYTES { Err(RootSecretTooShort) } else { Ok(Self(bytes)) }
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
    /// HMAC that has already processed the key, which halves the work for a short text. Wipes itself when dropped.
    keyed: Hmac<Sha256>,
}

impl DerivedKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let keyed = Hmac::new_from_slice(bytes.as_ref()).expect("HMAC takes a key of any length");
        Self { bytes, keyed }
    }

    /// HMAC-SHA-256 (RFC 2104) of the concatenated parts.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.keyed(parts).finalize().into_bytes().into()
    }

    /// Returns true if [`mac`](Self::mac) of the parts begins with `tag`. Runs in constant time.
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

    /// The key itself, for libraries that do the keyed operation on their own.
    pub fn expose(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(…)")
    }
}

/// Identifies a root secret without revealing anything about it: 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint([u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

serialize_as_hex!(Fingerprint, "not a fingerprint of 16 hex digits");

/// The keys derived from one root secret, one for each purpose.
#[derive(Clone, Debug)]
pub struct DerivedKeys {
    pub fingerprint: Fingerprint,
    /// Digests API keys.
    pub pepper: DerivedKey,
    /// Signs session tokens.
    pub tokens: DerivedKey,
    /// Digests service tokens and verifier tokens.
    pub machine_tokens: DerivedKey,
    /// Authenticates cursors.
    pub cursors: DerivedKey,
    /// Hides the usernames in the counters of sign-in attempts.
    pub attempts: DerivedKey,
    /// Signs checkpoints of the audit log.
    pub checkpoints: SigningKey,
    /// Authenticates the cookies of browsers that an operator has signed in from.
    pub devices: DerivedKey,
}

impl DerivedKeys {
    pub fn of(secret: &RootSecret) -> Self {
        let fingerprint = secret.derive("keymark/v1/fingerprint");
        Self {
            fingerprint: Fingerprint(*fingerprint.bytes.first_chunk().expect("8 of 32 bytes")),
            pepper: secret.derive("keymark/v1/pepper"),
            tokens: secret.derive("keymark/v1/tokens"),
            machine_tokens: secret.derive("keymark/v1/machine-tokens"),
            cursors: secret.derive("keymark/v1/cursors"),
            attempts: secret.derive("keymark/v1/attempts"),
            checkpoints: SigningKey::from_seed(&secret.derive("keymark/v1/audit-checkpoints").bytes),
            devices: secret.derive("keymark/v1/devices"),
        }
    }
}

/// The keys in use. Everything new uses the keys of the current root secret. The keys of previous root secrets still
/// verify what was created with them.
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

    pub fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }

    /// All keys, the current ones first.
    pub fn iter(&self) -> impl Iterator<Item = &DerivedKeys> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// The public keys of all keys that sign checkpoints, the current one first.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.iter().map(|keys| keys.checkpoints.public_key()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_has_its_own_key_and_none_is_printed() {
        let keys = DerivedKeys::of(&RootSecret::new(vec![7; 32]).unwrap());
        let all = [&keys.pepper, &keys.tokens, &keys.machine_tokens, &keys.cursors, &keys.attempts, &keys.devices];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| one.expose() != other.expose()));
            let used_to_sign = SigningKey::from_seed(&one.bytes).public_key();
            assert_ne!(keys.checkpoints.public_key(), used_to_sign);
        }
        let printed = format!("{keys:?} {:?}", RootSecret::new(vec![b'x'; 40]).unwrap());
        assert!(printed.contains("DerivedKey(…)") && printed.contains("RootSecret(…)") && !printed.contains("xxx"));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(RootSecret::new(vec![0; 31]).is_err());
    }

    #[test]
    fn hmac_matches_the_test_vector_of_rfc_4231() {
        // RFC 4231, test case 2, with the key padded by zeros, which HMAC does itself.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let tag = DerivedKey::new(Zeroizing::new(key)).mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
