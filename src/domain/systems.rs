//! Systems, and the rules for changing them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::actors::AuditActor;
use super::external_ids::ExternalId;
use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, KeyEnd, KeyRole, Mark};
use super::refusal::Refusal;
use super::secrets::Fingerprint;
use super::system_names::{Search, SystemName};
use super::texts::{Description, Reason};
use super::time::Timestamp;

/// Longest overlap of a rotation.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);
/// The longest life of keys that a tenant's policy can state, in days: ten years.
pub const MAX_LIFETIME_DAYS: u32 = 3650;
/// Least time between a request and the expiry that it sets.
pub const MIN_KEY_LIFETIME: Duration = Duration::from_mins(1);

/// A registered client application of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Stored as `_id` by MongoDB.
    #[serde(alias = "_id")]
    pub id: SystemId,
    pub tenant: TenantId,
    pub name: SystemName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Unique in the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<ExternalId>,
    /// The current key.
    pub key: Option<CurrentKey>,
    /// The key before the current one, while the overlap of a rotation lasts. It has an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<CurrentKey>,
    /// The key that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<EndedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// Starts at 1, and increases by one with each change of the system or its keys.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A live key of a system: the current or the retiring one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentKey {
    pub digest: KeyDigest,
    pub mark: Mark,
    /// `None` if release 0.1 wrote the row since the store was migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_by: Option<AuditActor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl CurrentKey {
    /// When and by whom the key was generated. If that is not known, the last change of `system`, its own.
    pub fn origin_in(&self, system: &System) -> (Timestamp, AuditActor) {
        let by = self.generated_by.clone().unwrap_or_else(AuditActor::keymark);
        (self.generated_at.unwrap_or(system.updated_at), by)
    }
}

/// What became of a system's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedKey {
    pub mark: Mark,
    pub ended_at: Timestamp,
    pub end: KeyEnd,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// While a system is suspended, all its keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A generated key, of which the system keeps the digest and the mark.
pub struct NewKey {
    pub digest: KeyDigest,
    /// The root secret whose pepper made the digest.
    pub secret: Fingerprint,
    pub mark: Mark,
    pub generated_by: AuditActor,
    pub expires_at: Option<Timestamp>,
}

impl System {
    pub fn new(id: SystemId, tenant: TenantId, name: SystemName, now: Timestamp) -> Self {
        Self {
            id,
            tenant,
            name,
            description: None,
            external_id: None,
            key: None,
            retiring: None,
            last_key: None,
            suspended: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Returns true for a system that the first stored format cannot describe: release 0.1 would lose a restriction,
    /// the description or the external id when it replaces the row.
    pub fn needs_second_format(&self) -> bool {
        self.description.is_some()
            || self.external_id.is_some()
            || self.retiring.is_some()
            || self.suspended.is_some()
            || self.key.as_ref().is_some_and(|key| key.expires_at.is_some())
    }

    /// Whether the name, the description or the external id matches.
    pub fn is_found_by(&self, search: &Search) -> bool {
        let description = || self.description.as_ref().map(Description::folded);
        let external_id = || self.external_id.as_ref().map(ExternalId::folded);
        search.matches(&self.name.folded())
            || description().is_some_and(|folded| search.matches(&folded))
            || external_id().is_some_and(|folded| search.matches(&folded))
    }

    /// The current and the retiring key.
    pub fn live_keys(&self) -> impl Iterator<Item = &CurrentKey> {
        self.key.iter().chain(&self.retiring)
    }

    pub fn live_key(&self, role: KeyRole) -> Option<&CurrentKey> {
        match role {
            KeyRole::Current => self.key.as_ref(),
            KeyRole::Retiring => self.retiring.as_ref(),
        }
    }

    /// Whether a key with this mark could be taken for another one of this system.
    pub fn has_recent_mark(&self, mark: Mark) -> bool {
        self.live_keys().any(|key| key.mark == mark) || self.last_key.as_ref().is_some_and(|key| key.mark == mark)
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
        self.check_revision(expected_revision)?;
        Ok((name != self.name).then(|| Self { name, ..self.changed(now) }))
    }

    /// Returns the system with another description, or `None` if it has this one already.
    ///
    /// # Errors
    ///
    /// `CONFLICT` if `expected_revision` is given and is not the current one.
    pub fn describe(
        &self,
        description: Option<Description>,
        expected_revision: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Self>, Refusal> {
        self.check_revision(expected_revision)?;
        Ok((description != self.description).then(|| Self { description, ..self.changed(now) }))
    }

    /// Returns the system with another external id, or `None` if it has this one already.
    pub fn set_external_id(&self, external_id: Option<ExternalId>, now: Timestamp) -> Option<Self> {
        (external_id != self.external_id).then(|| Self { external_id, ..self.changed(now) })
    }

    fn check_revision(&self, expected: Option<u64>) -> Result<(), Refusal> {
        match expected {
            Some(expected) if expected != self.revision => Err(Refusal::OtherRevision { current: self.revision }),
            _ => Ok(()),
        }
    }

    /// Returns the system with its new key, and the row of that key.
    ///
    /// # Errors
    ///
    /// `KEY_ALREADY_GENERATED`.
    pub fn generate_key(&self, new: NewKey, now: Timestamp) -> Result<(Self, Key), Refusal> {
        if self.key.is_some() {
            return Err(Refusal::KeyAlreadyGenerated);
        }
        Ok(self.with_new_key(new, now))
    }

    /// Returns the system with a new current key and the one before as retiring, and the row of the new key. If nothing is
    /// left of the overlap, the key before has ended, and a key that was retiring already keeps its end.
    ///
    /// # Errors
    ///
    /// `KEY_NOT_GENERATED`; `ROTATION_IN_PROGRESS` if a key is retiring, unless the overlap is zero.
    pub fn rotate_key(&self, new: NewKey, overlap: Duration, now: Timestamp) -> Result<(Self, Key), Refusal> {
        let previous = self.key.as_ref().ok_or(Refusal::NothingToRotate)?;
        if self.retiring.is_some() && !overlap.is_zero() {
            return Err(Refusal::RotationInProgress);
        }
        let (mut system, key) = self.with_new_key(new, now);
        let overlap_end = now.plus(overlap);
        let end = previous.expires_at.map_or(overlap_end, |expires_at| expires_at.min(overlap_end));
        if end <= now {
            let end = if end < overlap_end { KeyEnd::Expired } else { KeyEnd::RotatedOut };
            system.last_key = Some(EndedKey { mark: previous.mark, ended_at: now, end, reason: None });
        } else {
            system.retiring = Some(CurrentKey { expires_at: Some(end), ..previous.clone() });
        }
        Ok((system, key))
    }

    fn with_new_key(&self, new: NewKey, now: Timestamp) -> (Self, Key) {
        let NewKey { digest, secret, mark, generated_by, expires_at } = new;
        let key = Key {
            digest,
            tenant: self.tenant.clone(),
            system: self.id,
            system_name: self.name.clone(),
            external_id: self.external_id.clone(),
            mark,
            revision: 1,
            revoked_at: None,
            end: None,
            secret: Some(secret),
            role: KeyRole::Current,
            expires_at,
            suspended_at: self.suspended.as_ref().map(|suspension| suspension.at),
            warned_days: None,
        };
        let current =
            CurrentKey { digest, mark, generated_at: Some(now), generated_by: Some(generated_by), expires_at };
        (Self { key: Some(current), ..self.changed(now) }, key)
    }

    /// Returns the system without its retiring key, and that key.
    ///
    /// # Errors
    ///
    /// `KEY_NOT_GENERATED`.
    pub fn end_rotation(&self, reason: Option<Reason>, now: Timestamp) -> Result<(Self, CurrentKey), Refusal> {
        let key = self.retiring.clone().ok_or(Refusal::NothingRetiring)?;
        let last_key = Some(EndedKey { mark: key.mark, ended_at: now, end: KeyEnd::Revoked, reason });
        Ok((Self { retiring: None, last_key, ..self.changed(now) }, key))
    }

    /// Returns the system without its keys.
    ///
    /// # Errors
    ///
    /// `KEY_NOT_GENERATED`.
    pub fn revoke_keys(&self, reason: Option<Reason>, now: Timestamp) -> Result<Self, Refusal> {
        let key = self.live_keys().next().ok_or(Refusal::KeyNotGenerated)?;
        let last_key = Some(EndedKey { mark: key.mark, ended_at: now, end: KeyEnd::Revoked, reason });
        Ok(Self { key: None, retiring: None, last_key, ..self.changed(now) })
    }

    /// Returns the system with another end of one of its keys, or `None` if the key has this end already.
    ///
    /// # Errors
    ///
    /// `KEY_NOT_GENERATED`.
    pub fn set_key_expiry(
        &self,
        role: KeyRole,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Self>, Refusal> {
        let none = match role {
            KeyRole::Current => Refusal::NoKeyToExpire,
            KeyRole::Retiring => Refusal::NothingRetiring,
        };
        if self.live_key(role).ok_or(none)?.expires_at == expires_at {
            return Ok(None);
        }
        let mut system = self.changed(now);
        let key = match role {
            KeyRole::Current => &mut system.key,
            KeyRole::Retiring => &mut system.retiring,
        };
        if let Some(key) = key {
            key.expires_at = expires_at;
        }
        Ok(Some(system))
    }

    /// Returns the system without this key, whose end is reached.
    pub fn expire_key(&self, key: &Key, now: Timestamp) -> Self {
        let end = match key.role {
            KeyRole::Current => KeyEnd::Expired,
            KeyRole::Retiring => KeyEnd::RotatedOut,
        };
        self.without_key(key, end, key.expires_at.unwrap_or(now), now)
    }

    /// Returns the system without this key, which has ended so.
    pub fn without_key(&self, key: &Key, end: KeyEnd, ended_at: Timestamp, now: Timestamp) -> Self {
        let without = |live: &Option<CurrentKey>| live.clone().filter(|live| live.digest != key.digest);
        Self {
            key: without(&self.key),
            retiring: without(&self.retiring),
            last_key: Some(EndedKey { mark: key.mark, ended_at, end, reason: None }),
            ..self.changed(now)
        }
    }

    /// Returns the suspended system, or `None` if it is suspended already.
    pub fn suspend(&self, reason: Option<Reason>, now: Timestamp) -> Option<Self> {
        let suspended = Some(Suspension { at: now, reason });
        self.suspended.is_none().then(|| Self { suspended, ..self.changed(now) })
    }

    /// Returns the system without its suspension.
    ///
    /// # Errors
    ///
    /// `NOT_SUSPENDED`.
    pub fn resume(&self, now: Timestamp) -> Result<Self, Refusal> {
        if self.suspended.is_none() {
            return Err(Refusal::NotSuspended);
        }
        Ok(Self { suspended: None, ..self.changed(now) })
    }

    /// Returns the system and this live key with another digest of the same key. The system keeps its revision, since
    /// nothing that people see of it changes; whoever changes it or its key meanwhile conflicts on the row of the key (see
    /// [`Batch::requires_live_keys`](super::changes::Batch::requires_live_keys)). `None` if `key` is not a live key of the
    /// system.
    pub fn redigest_key(&self, key: &Key, (digest, secret): (KeyDigest, Fingerprint)) -> Option<(Self, Key)> {
        let mut system = self.clone();
        let mut live = system.key.iter_mut().chain(&mut system.retiring);
        live.find(|live| live.digest == key.digest)?.digest = digest;
        drop(live);
        Some((system, Key { digest, secret: Some(secret), revision: key.revision + 1, ..key.clone() }))
    }

    /// Keeps `updated_at` if the clock went back.
    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}

impl Key {
    /// The key as its system is after a change: renamed, rotated, suspended, with another end or external id.
    pub fn in_system(&self, system: &System) -> Self {
        let role = match &system.retiring {
            Some(retiring) if retiring.digest == self.digest => KeyRole::Retiring,
            _ => KeyRole::Current,
        };
        let expires_at = system.live_key(role).and_then(|key| key.expires_at);
        let warned_days = self.warned_days.filter(|_| expires_at == self.expires_at);
        Self {
            system_name: system.name.clone(),
            external_id: system.external_id.clone(),
            role,
            expires_at,
            suspended_at: system.suspended.as_ref().map(|suspension| suspension.at),
            warned_days,
            revision: self.revision + 1,
            ..self.clone()
        }
    }

    /// The key after it ended.
    pub fn ended(&self, end: KeyEnd, at: Timestamp) -> Self {
        Self { revoked_at: Some(at), end: Some(end), revision: self.revision + 1, ..self.clone() }
    }

    /// The key after this warning of its expiry.
    pub fn warned(&self, days: u8) -> Self {
        Self { warned_days: Some(days), revision: self.revision + 1, ..self.clone() }
    }
}

/// The field by which a store sorts systems. The id breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemOrderField {
    /// The folded name, by code point.
    Name,
    UpdatedAt,
    CreatedAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SystemSortKey {
    pub value: SortValue,
    pub id: SystemId,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SortValue {
    Name(String),
    At(Timestamp),
    /// The system has no value. It comes last, also in a descending list, where this order does not hold.
    Absent,
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

    fn new_key(n: u8, expires_at: Option<Timestamp>) -> NewKey {
        let mark = Mark::try_from(format!("abc{n}")).unwrap();
        let generated_by = AuditActor::keymark();
        NewKey { digest: KeyDigest::from_bytes([n; 32]), secret: secret(), mark, generated_by, expires_at }
    }

    fn with_key(system: &System) -> (System, Key) {
        system.generate_key(new_key(1, None), ONE).unwrap()
    }

    #[test]
    fn a_system_has_at_most_one_current_and_one_retiring_key() {
        let (with, key) = with_key(&system());
        assert_eq!((with.revision, with.updated_at, key.revision), (2, ONE, 1));
        assert_eq!(with.generate_key(new_key(2, None), ONE).unwrap_err(), Refusal::KeyAlreadyGenerated);
        let (rotating, second) = with.rotate_key(new_key(2, None), Duration::from_hours(1), ONE).unwrap();
        let end = ONE.plus(Duration::from_hours(1));
        assert_eq!(rotating.retiring.as_ref().unwrap().expires_at, Some(end));
        let retiring = key.in_system(&rotating);
        assert_eq!((retiring.role, retiring.expires_at, retiring.due_at()), (KeyRole::Retiring, Some(end), Some(end)));
        assert_eq!(second.in_system(&rotating).role, KeyRole::Current);
        let again = rotating.rotate_key(new_key(3, None), Duration::from_secs(1), ONE);
        assert_eq!(again.unwrap_err(), Refusal::RotationInProgress);
        let without = rotating.revoke_keys(None, ONE).unwrap();
        assert_eq!((&without.key, &without.retiring, without.revision), (&None, &None, 4));
        assert_eq!(without.last_key.as_ref().unwrap().mark, second.mark);
        assert_eq!(without.revoke_keys(None, ONE).unwrap_err(), Refusal::KeyNotGenerated);
        assert_eq!(without.rotate_key(new_key(3, None), Duration::ZERO, ONE).unwrap_err(), Refusal::NothingToRotate);
    }

    #[test]
    fn rotation_without_overlap_ends_the_current_key_and_keeps_the_retiring_one() {
        let (with, _) = with_key(&system());
        let (rotating, _) = with.rotate_key(new_key(2, None), Duration::from_hours(1), ONE).unwrap();
        let (rotated, third) = rotating.rotate_key(new_key(3, None), Duration::ZERO, ONE).unwrap();
        assert_eq!((&rotated.retiring, rotated.key.as_ref().unwrap().mark), (&rotating.retiring, third.mark));
        let last = rotated.last_key.unwrap();
        assert_eq!((last.mark, last.end, last.ended_at), (rotating.key.unwrap().mark, KeyEnd::RotatedOut, ONE));
    }

    #[test]
    fn a_rotation_never_lengthens_the_life_of_the_key_before() {
        let soon = ONE.plus(Duration::from_mins(5));
        let (with, _) = system().generate_key(new_key(1, Some(soon)), ONE).unwrap();
        let (rotating, _) = with.rotate_key(new_key(2, None), MAX_OVERLAP, ONE).unwrap();
        assert_eq!(rotating.retiring.unwrap().expires_at, Some(soon));
        let (rotated, _) = with.rotate_key(new_key(2, None), Duration::ZERO, ONE).unwrap();
        assert_eq!((rotated.retiring, rotated.last_key.unwrap().end), (None, KeyEnd::RotatedOut));
    }

    #[test]
    fn a_warning_is_due_once_for_each_stage_and_the_last_one_wins() {
        let end = NOON.plus(Duration::from_hours(24 * 40));
        let (with, key) = system().generate_key(new_key(1, Some(end)), NOON).unwrap();
        let at = |days: u64| end.minus(Duration::from_hours(24 * days));
        assert_eq!((key.due_at(), key.due_warning(at(31))), (Some(at(30)), None));
        assert_eq!(key.due_warning(at(30)), Some(30));
        assert_eq!(key.due_warning(at(2)), Some(7), "30 days are over");
        let warned = key.warned(7);
        assert_eq!((warned.due_at(), warned.due_warning(at(2))), (Some(at(1)), None));
        assert_eq!((warned.warned(1).due_at(), warned.warned(1).due_warning(at(0))), (Some(end), None));
        let suspended = with.suspend(None, NOON).unwrap();
        assert_eq!(key.in_system(&suspended).due_at(), None);
    }

    #[test]
    fn renaming_to_the_same_name_changes_nothing() {
        let name = |text| SystemName::parse(text).unwrap();
        assert_eq!(system().rename(name("Billing"), None, ONE), Ok(None));
        let renamed = system().rename(name("BILLING"), Some(1), ONE).unwrap().unwrap();
        assert_eq!((renamed.name.as_str(), renamed.revision), ("BILLING", 2));
        assert_eq!(system().rename(name("Other"), Some(7), ONE), Err(Refusal::OtherRevision { current: 1 }));
    }

    #[test]
    fn updated_at_never_goes_back() {
        let (later, _) = with_key(&system());
        assert_eq!(later.revoke_keys(None, NOON).unwrap().updated_at, ONE);
    }
}
