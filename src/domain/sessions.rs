//! Sessions: what a signed-in operator's token names.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::ids::{OperatorId, TenantId};
use super::operators::Operator;
use super::time::Timestamp;

/// The 256 random bits that a token carries. Prints nothing; the store keeps only the [`SessionId`] made of it, so
/// that a copy of the store holds no usable token.
pub struct SessionSecret(Zeroizing<[u8; 32]>);

impl SessionSecret {
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Zeroizing::new(rng.random()))
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// For the token: unpadded base64url.
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_ref()))
    }

    pub fn id(&self) -> SessionId {
        SessionId(Sha256::digest(self.0.as_ref()).into())
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// Names a session in the store: SHA-256 of its secret, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SessionId([u8; 32]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

serialize_as_hex!(SessionId, "not a session id of 64 hex digits");

/// A session: it ends at `expires_at`, when it is deleted, and when its operator is removed or gets a new password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: SessionId,
    pub tenant: TenantId,
    pub operator: OperatorId,
    /// The operator's `password_version` when it was opened.
    pub password_version: u64,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Session {
    /// Whether the session of `operator`, as it is now, still stands.
    pub fn is_valid_for(&self, operator: &Operator, now: Timestamp) -> bool {
        self.operator == operator.id && self.password_version == operator.password_version && now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_id_does_not_give_the_secret_away() {
        let secret = SessionSecret::generate(&mut StdRng::seed_from_u64(3));
        let text = secret.encode();
        assert_eq!(SessionSecret::decode(&text).unwrap().id(), secret.id());
        assert_ne!(String::from(secret.id()), hex::encode(secret.0.as_ref()));
        assert!(SessionSecret::decode("short").is_none() && SessionSecret::decode("").is_none());
        assert_eq!(format!("{secret:?} {:?}", secret.id()), "SessionSecret(…) SessionId(…)");
    }
}
