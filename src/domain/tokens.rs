//! Tokens of machines: service tokens for the API, and verifier tokens for the verification listener.
//!
//! A token is a text like an API key, `kmt_…` or `kmv_…`. It is shown once; the store has its keyed digest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::actors::AuditActor;
use super::ids::{TenantId, TokenId};
use super::keys::{ApiKey, KeyDigest, KeyPrefix, Malformed, Mark, PresentedKey};
use super::permissions::Permissions;
use super::refusal::Refusal;
use super::secrets::DerivedKey;
use super::system_names::{NameError, SystemName};
use super::time::Timestamp;

/// Life of a service token for which no expiry is set.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(90 * 24);
/// Tokens of one tenant.
pub const MAX_TOKENS: usize = 1_000;

const SERVICE_PREFIX: &str = "kmt";
const VERIFIER_PREFIX: &str = "kmv";

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenKind {
    /// Calls the API with these permission codes.
    Service {
        permissions: Permissions,
        /// The secret before the current one, until the overlap of the rotation ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retiring: Option<RetiringSecret>,
    },
    /// Verifies keys: of its tenant, or, if it is of the platform, of all tenants.
    Verifier,
}

/// A replaced secret of a token, which is valid until `ends_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetiringSecret {
    pub digest: KeyDigest,
    pub ends_at: Timestamp,
}

/// A token. Its row is replaced as a whole, and deleted when the token is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    pub id: TokenId,
    /// The tenant that it belongs to, also if it is of the platform.
    pub tenant: TenantId,
    /// Unique among the tokens of its kind and tenant.
    pub name: SystemName,
    pub kind: TokenKind,
    pub is_platform: bool,
    pub digest: KeyDigest,
    pub mark: Mark,
    pub created_by: AuditActor,
    /// `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Starts at 1, and increases by one with each change.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl TokenKind {
    /// The first part of the text of a new token.
    pub fn prefix(&self) -> KeyPrefix {
        let prefix = match self {
            Self::Service { .. } => SERVICE_PREFIX,
            Self::Verifier => VERIFIER_PREFIX,
        };
        prefix.parse().expect("the prefixes are well-formed")
    }

    pub const fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}

impl Token {
    /// Parses a name as it was entered: by the rules for names of systems, except that one character is enough.
    pub fn parse_name(typed: &str) -> Result<SystemName, NameError> {
        SystemName::parse_with_minimum(typed, 1)
    }

    /// The codes of a service token; none for a verifier token.
    pub fn permissions(&self) -> Permissions {
        match self.kind {
            TokenKind::Service { permissions, .. } => permissions,
            TokenKind::Verifier => Permissions::NONE,
        }
    }

    /// The digests of its secrets, the current one first.
    pub fn digests(&self) -> impl Iterator<Item = KeyDigest> {
        let retiring = match self.kind {
            TokenKind::Service { retiring, .. } => retiring,
            TokenKind::Verifier => None,
        };
        std::iter::once(self.digest).chain(retiring.map(|secret| secret.digest))
    }

    /// Returns true if the secret with this digest is valid at `now`.
    pub fn is_valid(&self, digest: &KeyDigest, now: Timestamp) -> bool {
        let is_retiring = |retiring: RetiringSecret| retiring.digest == *digest && now < retiring.ends_at;
        let is_known = match self.kind {
            _ if self.digest == *digest => true,
            TokenKind::Service { retiring, .. } => retiring.is_some_and(is_retiring),
            TokenKind::Verifier => false,
        };
        is_known && !self.is_expired(now)
    }

    /// When the secret with this digest ends. `None`: not by itself.
    pub fn end_of(&self, digest: &KeyDigest) -> Option<Timestamp> {
        let overlap = match self.kind {
            TokenKind::Service { retiring: Some(secret), .. } if secret.digest == *digest => Some(secret.ends_at),
            _ => None,
        };
        self.expires_at.into_iter().chain(overlap).min()
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Returns the token with a new secret, which ends at `expires_at`. The current one is valid until the overlap ends, but
    /// no longer than before.
    ///
    /// # Errors
    ///
    /// `ROTATION_IN_PROGRESS` if the secret before is still valid and there is an overlap: of two secrets one is kept.
    pub fn rotate(
        &self,
        digest: KeyDigest,
        mark: Mark,
        overlap: Duration,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let TokenKind::Service { permissions, retiring } = self.kind else { return Err(Refusal::TokenNotFound) };
        let end = |at: Timestamp| self.expires_at.into_iter().chain([at]).min().unwrap_or(at);
        let retiring = retiring.map(|secret| RetiringSecret { ends_at: end(secret.ends_at), ..secret });
        let retiring = retiring.filter(|secret| now < secret.ends_at);
        let retiring = match (overlap.is_zero(), retiring) {
            (true, retiring) => retiring,
            (false, None) => Some(RetiringSecret { digest: self.digest, ends_at: end(now.plus(overlap)) }),
            (false, Some(_)) => return Err(Refusal::RotationInProgress),
        };
        let kind = TokenKind::Service { permissions, retiring };
        let (revision, updated_at) = (self.revision + 1, now.max(self.updated_at));
        Ok(Self { kind, digest, mark, expires_at, revision, updated_at, ..self.clone() })
    }
}

/// A text that has the format of a service token or a verifier token.
#[derive(Clone, Copy)]
pub struct PresentedToken<'a>(PresentedKey<'a>);

impl<'a> PresentedToken<'a> {
    pub fn parse_service(presented: &'a str) -> Result<Self, Malformed> {
        Self::parse(presented, SERVICE_PREFIX)
    }

    pub fn parse_verifier(presented: &'a str) -> Result<Self, Malformed> {
        Self::parse(presented, VERIFIER_PREFIX)
    }

    fn parse(presented: &'a str, prefix: &str) -> Result<Self, Malformed> {
        if has_prefix(presented, prefix) { PresentedKey::parse(presented).map(Self) } else { Err(Malformed) }
    }

    /// HMAC-SHA-256 of the whole token under the key for tokens.
    pub fn digest(self, key: &DerivedKey) -> KeyDigest {
        self.0.digest(key)
    }
}

/// Returns true if the text begins like a service token. Session tokens never do.
pub fn looks_like_service_token(presented: &str) -> bool {
    has_prefix(presented, SERVICE_PREFIX)
}

/// Returns true if the text begins like a verifier token of the store.
pub fn looks_like_verifier_token(presented: &str) -> bool {
    has_prefix(presented, VERIFIER_PREFIX)
}

fn has_prefix(presented: &str, prefix: &str) -> bool {
    presented.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'))
}

/// A whole token, for the response that shows it once.
pub type TokenText = ApiKey;
