//! Permission codes of operators and service tokens. No code implies another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    View,
    Create,
    Edit,
    Delete,
    ViewOperators,
    EditOperators,
    ViewTenants,
    EditTenants,
}

/// See systems, the marks of their keys, and the audit log.
pub const VIEW: &str = "api_key_management:view";
/// Create systems and generate keys.
pub const CREATE: &str = "api_key_management:create";
/// Rename systems and revoke keys.
pub const EDIT: &str = "api_key_management:edit";
/// Delete systems.
pub const DELETE: &str = "api_key_management:delete";
/// See operators, their sessions, service tokens and verifier tokens.
pub const VIEW_OPERATORS: &str = "operator_management:view";
/// Add, change, suspend and remove operators; create and revoke tokens.
pub const EDIT_OPERATORS: &str = "operator_management:edit";
/// See all tenants. Of the platform only.
pub const VIEW_TENANTS: &str = "tenant_management:view";
/// Create, change, suspend and delete tenants. Of the platform only.
pub const EDIT_TENANTS: &str = "tenant_management:edit";

impl Permission {
    pub const ALL: [Self; 8] = [
        Self::View,
        Self::Create,
        Self::Edit,
        Self::Delete,
        Self::ViewOperators,
        Self::EditOperators,
        Self::ViewTenants,
        Self::EditTenants,
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Self::View => VIEW,
            Self::Create => CREATE,
            Self::Edit => EDIT,
            Self::Delete => DELETE,
            Self::ViewOperators => VIEW_OPERATORS,
            Self::EditOperators => EDIT_OPERATORS,
            Self::ViewTenants => VIEW_TENANTS,
            Self::EditTenants => EDIT_TENANTS,
        }
    }

    /// Whether only operators and tokens of the platform can hold it.
    pub const fn is_of_platform(self) -> bool {
        matches!(self, Self::ViewTenants | Self::EditTenants)
    }

    /// Whether release 0.1 knows it.
    const fn is_of_first_release(self) -> bool {
        matches!(self, Self::View | Self::Create | Self::Edit | Self::Delete)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is not a permission code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a permission code")]
pub struct NotAPermission;

impl FromStr for Permission {
    type Err = NotAPermission;

    fn from_str(code: &str) -> Result<Self, NotAPermission> {
        Self::ALL.into_iter().find(|p| p.code() == code).ok_or(NotAPermission)
    }
}

/// A set of permission codes. Serialized as a list of the codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub struct Permissions(u8);

impl Permissions {
    pub const NONE: Self = Self(0);

    /// All codes that an operator or a token can hold: of a tenant, or of the platform.
    pub fn all_of(is_platform: bool) -> Self {
        Permission::ALL.into_iter().filter(|permission| is_platform || !permission.is_of_platform()).collect()
    }

    pub fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |p| self.contains(*p))
    }

    pub fn is_subset_of(self, other: Self) -> bool {
        self.minus(other) == Self::NONE
    }

    /// The codes that are not in the other set.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether release 0.1 knows all of the codes.
    pub fn are_of_first_release(self) -> bool {
        self.iter().all(Permission::is_of_first_release)
    }

    /// The codes that are in both sets.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The codes, in the order of [`Permission::ALL`].
    pub fn codes(self) -> Vec<String> {
        self.iter().map(|p| p.code().to_owned()).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, p| bits | 1 << p as u8))
    }
}

impl From<Permissions> for Vec<String> {
    fn from(permissions: Permissions) -> Self {
        permissions.codes()
    }
}

impl TryFrom<Vec<String>> for Permissions {
    type Error = NotAPermission;

    fn try_from(codes: Vec<String>) -> Result<Self, NotAPermission> {
        codes.iter().map(|code| code.parse::<Permission>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_implies_another() {
        for one in Permission::ALL {
            let only: Permissions = [one].into_iter().collect();
            for other in Permission::ALL {
                assert_eq!(only.contains(other), one == other);
            }
        }
    }

    #[test]
    fn codes_round_trip() {
        for bits in 0..=u8::MAX {
            let set = Permissions(bits);
            assert_eq!(Permissions::try_from(set.codes()), Ok(set));
        }
        assert_eq!("api_key_management:admin".parse::<Permission>(), Err(NotAPermission));
    }
}
