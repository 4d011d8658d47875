//! Sessions of signed-in operators.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::ids::{OperatorId, TenantId};
use super::operators::Operator;
use super::time::Timestamp;

/// The 256 random bits in a session's token. `Debug` does not print them, and the store has only the [`SessionId`]
/// derived from them, so a copy of the store contains no usable token.
pub struct SessionSecret(Zeroizing<[u8; 32]>);

impl SessionSecret {
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Zeroizing::new(rng.random()))
    }

    /// Inverse of [`encode`](Self::encode).
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// The secret as unpadded base64url, for the token.
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

/// The id of a session in the store: SHA-256 of its secret. Serialized as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SessionId([u8; 32]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

serialize_as_hex!(SessionId, "not a session id of 64 hex digits");

/// Sessions of one operator. A sign-in beyond that ends the oldest ones.
pub const MAX_SESSIONS: usize = 100;
/// Bytes of a client's `User-Agent` that are kept.
pub const MAX_USER_AGENT_BYTES: usize = 256;

/// A session ends at `expires_at`, when it is deleted, and when its operator is removed or gets a new password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: SessionId,
    pub tenant: TenantId,
    pub operator: OperatorId,
    /// The operator's `password_version` when the session was created.
    pub password_version: u64,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// The network of the client that signed in: its address, or the /64 of an IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<IpAddr>,
    /// The `User-Agent` of the client that signed in, up to [`MAX_USER_AGENT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Box<str>>,
}

impl Session {
    /// Returns true if the session is one of `operator`'s and has not ended.
    pub fn is_valid_for(&self, operator: &Operator, now: Timestamp) -> bool {
        let is_suspended = operator.suspended_at.is_some();
        !is_suspended
            && self.operator == operator.id
            && self.password_version == operator.password_version
            && now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn id_does_not_reveal_the_secret() {
        let secret = SessionSecret::generate(&mut StdRng::seed_from_u64(3));
        let text = secret.encode();
        assert_eq!(SessionSecret::decode(&text).unwrap().id(), secret.id());
        assert_ne!(String::from(secret.id()), hex::encode(secret.0.as_ref()));
        assert!(SessionSecret::decode("short").is_none() && SessionSecret::decode("").is_none());
        assert_eq!(format!("{secret:?} {:?}", secret.id()), "SessionSecret(…) SessionId(…)");
    }
}
