//! Ed25519 signatures (RFC 8032).

use std::fmt;

use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::canonical_json::canonical_json;

/// A private key. `Debug` does not print it, and it is wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// A public key: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut id = KeyId([0; 8]);
        id.0.copy_from_slice(&digest[..8]);
        id
    }

    /// Whether `signature` is this key's signature of the message. Refuses keys of small order, and signatures that are
    /// not in canonical form.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

/// Identifies a public key: the first 8 bytes of its SHA-256, as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; 8]);

/// A signature: 128 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Signature([u8; 64]);

impl Signature {
    /// In place of a signature while the message is built.
    pub(super) const NONE: Self = Self([0; 64]);
}

/// Signs and verifies a record that has the members `key_id`, `public_key` and `signature`. The signature is of `context`,
/// which keeps it from having a meaning elsewhere, and then of the other members as canonical JSON (RFC 8785).
macro_rules! signed_record {
    ($record:ident, $context:literal) => {
        impl $record {
            /// The same record, signed by this key.
            pub fn signed_by(self, key: &$crate::domain::signatures::SigningKey) -> Self {
                let public_key = key.public_key();
                let unsigned = Self { key_id: public_key.id(), public_key, ..self };
                let message = $crate::domain::signatures::message_of($context, &unsigned);
                Self { signature: key.sign(&message), ..unsigned }
            }

            /// Whether the key that the record names has signed it. Anybody has a key: compare it with a known one.
            pub fn is_signed(&self) -> bool {
                let message = $crate::domain::signatures::message_of($context, self);
                self.key_id == self.public_key.id() && self.public_key.verifies(&message, &self.signature)
            }

            /// Whether one of these keys has signed it.
            pub fn is_signed_by(&self, keys: &[$crate::domain::signatures::PublicKey]) -> bool {
                keys.contains(&self.public_key) && self.is_signed()
            }

            /// As JSON, in one line without its end.
            pub fn to_json(&self) -> String {
                serde_json::to_string(self).expect("a record has string keys and plain values alone")
            }
        }
    };
}
pub(super) use signed_record;

/// The message that the signature of a record is about.
pub(super) fn message_of(context: &str, record: &impl Serialize) -> Vec<u8> {
    let mut members = serde_json::to_value(record).expect("a record has string keys and plain values alone");
    if let serde_json::Value::Object(members) = &mut members {
        members.remove("signature");
    }
    [context.as_bytes(), canonical_json(&members).as_bytes()].concat()
}

serialize_as_hex!(PublicKey, "not a public key of 64 hex digits");
serialize_as_hex!(KeyId, "not a key id of 16 hex digits");
serialize_as_hex!(Signature, "not a signature of 128 hex digits");

macro_rules! display_as_hex {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )+};
}

display_as_hex!(PublicKey, KeyId, Signature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_the_first_test_vector_of_rfc_8032() {
        let mut seed = [0; 32];
        hex::decode_to_slice("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", &mut seed).unwrap();
        let key = SigningKey::from_seed(&seed);
        insta::assert_snapshot!(key.public_key(), @"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let signature = key.sign(b"");
        insta::assert_snapshot!(signature, @"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
        assert!(key.public_key().verifies(b"", &signature) && !key.public_key().verifies(b"x", &signature));
    }

    #[test]
    fn keys_of_small_order_verify_nothing() {
        let (mut identity, mut forged) = ([0; 32], [0; 64]);
        identity[0] = 1;
        forged[0] = 1;
        assert!(!PublicKey(identity).verifies(b"anything", &Signature(forged)));
        assert!(!format!("{:?}", SigningKey::from_seed(&[7; 32])).contains('7'));
    }
}
