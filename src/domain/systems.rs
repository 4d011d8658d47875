//! Systems, and the rules for changing them.

use serde::{Deserialize, Serialize};

use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, Mark};
use super::refusal::Refusal;
use super::secrets::Fingerprint;
use super::system_names::SystemName;
use super::time::Timestamp;

/// A registered client application of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub id: SystemId,
    pub tenant: TenantId,
    pub name: SystemName,
    pub key: Option<CurrentKey>,
    /// Starts at 1, and increases by one with each change of the system or its key.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The valid key of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentKey {
    pub digest: KeyDigest,
    pub mark: Mark,
}

impl System {
    pub fn new(id: SystemId, tenant: TenantId, name: SystemName, now: Timestamp) -> Self {
        Self { id, tenant, name, key: None, revision: 1, created_at: now, updated_at: now }
    }

    /// Returns the system with another name, or `None` if it has this name already.
    ///
    /// # Errors
    ///
    /// `CONFLICT` if `expected_revision` is given and is not the current one.
    pub fn rename(
        &self,
        name: SystemName,
        expected_revision: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Self>, Refusal> {
        if expected_revision.is_some_and(|expected| expected != self.revision) {
            return Err(Refusal::Conflict);
        }
        Ok((name != self.name).then(|| Self { name, ..self.changed(now) }))
    }

    /// Returns the system with its new key, and the row of that key.
    ///
    /// # Errors
    ///
    /// `KEY_ALREADY_GENERATED`.
    pub fn generate_key(
        &self,
        (digest, secret): (KeyDigest, Fingerprint),
        mark: Mark,
        now: Timestamp,
    ) -> Result<(Self, Key), Refusal> {
        if self.key.is_some() {
            return Err(Refusal::KeyAlreadyGenerated);
        }
        let key = Key {
            digest,
            tenant: self.tenant.clone(),
            system: self.id,
            system_name: self.name.clone(),
            mark,
            revision: 1,
            revoked_at: None,
            secret: Some(secret),
        };
        Ok((Self { key: Some(CurrentKey { digest, mark }), ..self.changed(now) }, key))
    }

    /// Returns the system without its key, and that key.
    ///
    /// # Errors
    ///
    /// `KEY_NOT_GENERATED`.
    pub fn revoke_key(&self, now: Timestamp) -> Result<(Self, CurrentKey), Refusal> {
        let key = self.key.ok_or(Refusal::KeyNotGenerated)?;
        Ok((Self { key: None, ..self.changed(now) }, key))
    }

    /// Returns the system and its current key with another digest of the same key. The system keeps its revision, since
    /// nothing that people see of it changes; whoever changes its key meanwhile conflicts on the row of the key. `None` if
    /// `key` is not the current key.
    pub fn redigest_key(&self, key: &Key, (digest, secret): (KeyDigest, Fingerprint)) -> Option<(Self, Key)> {
        let current = self.key.filter(|current| current.digest == key.digest && key.revoked_at.is_none())?;
        let key = Key { digest, secret: Some(secret), revision: key.revision + 1, ..key.clone() };
        Some((Self { key: Some(CurrentKey { digest, ..current }), ..self.clone() }, key))
    }

    /// Keeps `updated_at` if the clock went back.
    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}

impl Key {
    /// The key after its system was renamed.
    pub fn renamed(&self, system_name: SystemName) -> Self {
        Self { system_name, revision: self.revision + 1, ..self.clone() }
    }

    pub fn revoked(&self, now: Timestamp) -> Self {
        Self { revoked_at: Some(now), revision: self.revision + 1, ..self.clone() }
    }
}

/// The fields of a system by which lists are searched and sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSystem {
    pub id: SystemId,
    pub folded_name: String,
    pub updated_at: Timestamp,
    pub created_at: Timestamp,
}

impl From<&System> for ListedSystem {
    fn from(system: &System) -> Self {
        let System { id, name, updated_at, created_at, .. } = system;
        Self { id: *id, folded_name: name.folded(), updated_at: *updated_at, created_at: *created_at }
    }
}

/// The field by which a list of systems is sorted. The id breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemOrderField {
    /// The folded name, by code point.
    Name,
    UpdatedAt,
    CreatedAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemOrder {
    pub field: SystemOrderField,
    pub direction: Direction,
}

impl Default for SystemOrder {
    fn default() -> Self {
        Self { field: SystemOrderField::Name, direction: Direction::Ascending }
    }
}

/// The position of a system in a sorted list: the value of the sort field, then the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SystemSortKey {
    pub value: SortValue,
    pub id: SystemId,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SortValue {
    Name(String),
    At(Timestamp),
}

impl SystemOrderField {
    /// The position of `system` in a list sorted by this field.
    pub fn key_of(self, system: &System) -> SystemSortKey {
        let value = match self {
            Self::Name => SortValue::Name(system.name.folded()),
            Self::UpdatedAt => SortValue::At(system.updated_at),
            Self::CreatedAt => SortValue::At(system.created_at),
        };
        SystemSortKey { value, id: system.id }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);
    const ONE: Timestamp = Timestamp::from_millis(46_800_000);

    fn system() -> System {
        let id = SystemId::new(NOON, &mut StdRng::seed_from_u64(1));
        System::new(id, "acme".parse().unwrap(), SystemName::parse("Billing").unwrap(), NOON)
    }

    fn secret() -> Fingerprint {
        "0123456789abcdef".to_owned().try_into().unwrap()
    }

    fn with_key(system: &System) -> (System, Key) {
        let mark = Mark::try_from("abcd".to_owned()).unwrap();
        system.generate_key((KeyDigest::from_bytes([1; 32]), secret()), mark, ONE).unwrap()
    }

    #[test]
    fn a_system_has_at_most_one_key() {
        let (with, key) = with_key(&system());
        assert_eq!((with.revision, with.updated_at, key.revision), (2, ONE, 1));
        let again = with.generate_key((KeyDigest::from_bytes([2; 32]), secret()), key.mark, ONE);
        assert_eq!(again.unwrap_err(), Refusal::KeyAlreadyGenerated);
        let (without, revoked) = with.revoke_key(ONE).unwrap();
        assert_eq!((without.key, without.revision, revoked.digest), (None, 3, key.digest));
        assert_eq!(without.revoke_key(ONE).unwrap_err(), Refusal::KeyNotGenerated);
    }

    #[test]
    fn renaming_to_the_same_name_changes_nothing() {
        let name = |text| SystemName::parse(text).unwrap();
        assert_eq!(system().rename(name("Billing"), None, ONE), Ok(None));
        let renamed = system().rename(name("BILLING"), Some(1), ONE).unwrap().unwrap();
        assert_eq!((renamed.name.as_str(), renamed.revision), ("BILLING", 2));
        assert_eq!(system().rename(name("Other"), Some(7), ONE), Err(Refusal::Conflict));
    }

    #[test]
    fn updated_at_never_goes_back() {
        let (later, _) = with_key(&system());
        assert_eq!(later.revoke_key(NOON).unwrap().0.updated_at, ONE);
    }
}
