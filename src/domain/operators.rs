//! Operators: the people who sign in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ids::{OperatorId, TenantId};
use super::permissions::Permissions;
use super::time::Timestamp;

/// Fewest and most bytes of a password (ASVS 5, V6.2: at least 8, and no short upper limit). The upper one bounds
/// the work that a stranger can ask for.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;

/// A username: 1 to 64 ASCII letters, digits and `. _ - @ +`, in lower case; unique across tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(String);

/// The text is no username.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAUsername;

impl Username {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = NotAUsername;

    fn from_str(typed: &str) -> Result<Self, NotAUsername> {
        let well_formed = (1..=64).contains(&typed.len())
            && typed.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b));
        if well_formed { Ok(Self(typed.to_ascii_lowercase())) } else { Err(NotAUsername) }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAUsername {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a username is 1 to 64 letters, digits and . _ - @ +")
    }
}

/// A password as somebody typed it. Prints nothing and is wiped when dropped.
pub struct Password(Zeroizing<String>);

/// The password is shorter or longer than [`PASSWORD_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitPassword;

impl Password {
    /// A presented password: whatever was typed, to be compared.
    pub fn presented(typed: String) -> Self {
        Self(Zeroizing::new(typed))
    }

    /// A new password, which must be of [`PASSWORD_BYTES`].
    pub fn chosen(typed: String) -> Result<Self, UnfitPassword> {
        let password = Self::presented(typed);
        if PASSWORD_BYTES.contains(&password.0.len()) { Ok(password) } else { Err(UnfitPassword) }
    }

    /// Whether it can be anybody's: longer ones are not worth a hash.
    pub fn is_possible(&self) -> bool {
        self.0.len() <= *PASSWORD_BYTES.end()
    }

    /// For hashing and comparing, and for the one answer that shows a generated one.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Display for UnfitPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "A password has {} to {} bytes.", PASSWORD_BYTES.start(), PASSWORD_BYTES.end())
    }
}

/// A password's argon2id hash as a PHC string. Prints nothing, since it can be guessed against.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub fn from_phc(phc: String) -> Self {
        Self(phc)
    }

    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A person who signs in, of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    pub id: OperatorId,
    pub tenant: TenantId,
    pub username: Username,
    pub password_hash: PasswordHash,
    pub permissions: Permissions,
    /// Moves by one with each new password: sessions opened before count no more.
    pub password_version: u64,
    /// Moves by one with each change; the first is 1.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Operator {
    pub fn new(
        id: OperatorId,
        tenant: TenantId,
        username: Username,
        password_hash: PasswordHash,
        permissions: Permissions,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            username,
            password_hash,
            permissions,
            password_version: 1,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The operator with other permission codes; `None` when they are the same.
    pub fn with_permissions(&self, permissions: Permissions, now: Timestamp) -> Option<Self> {
        (permissions != self.permissions).then(|| Self { permissions, ..self.changed(now) })
    }

    pub fn with_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self { password_hash, password_version: self.password_version + 1, ..self.changed(now) }
    }

    /// The operator with the same password, hashed anew.
    pub fn with_rehashed_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self { password_hash, ..self.changed(now) }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}
