//! Tenants: the customers of a platform, each with its systems, operators and tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{AuditEntryId, OperatorId, SystemId, TenantId, TokenId};
use super::refusal::Refusal;
use super::system_names::{NameError, Search, SystemName};
use super::systems::Suspension;
use super::texts::Reason;
use super::time::Timestamp;

/// Minimum length of a tenant's name in extended grapheme clusters. The other rules are those of systems' names.
const MIN_NAME_CHARACTERS: usize = 1;
/// Shortest idle time of sessions that a policy can set, in minutes: uses are written to the minute.
pub const MIN_IDLE_MINUTES: u32 = 2;
/// Longest idle time of sessions that a policy can set, in minutes: 30 days.
pub const MAX_IDLE_MINUTES: u32 = 30 * 24 * 60;

/// Prefix of the settings in which the longest life of a tenant's keys was stored before tenants had rows, in days.
pub const LONGEST_LIFETIME_SETTING: &str = "longest-key-lifetime-days:";

/// A tenant. Its row is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    pub id: TenantId,
    /// The display name. Need not be unique.
    pub name: SystemName,
    #[serde(default, skip_serializing_if = "TenantPolicy::is_default")]
    pub policy: TenantPolicy,
    /// While it is suspended, no key, session or token of it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// Starts at 1, and increases by one with each change. 0: the tenant has no row yet.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The rules that a tenant sets for its keys and operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantPolicy {
    /// The longest life of a new key. `None`: any, also without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_key_lifetime_days: Option<u32>,
    /// The longest time that a session can be idle. `None`: the setting of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_idle_minutes: Option<u32>,
}

impl TenantPolicy {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub fn max_key_lifetime(&self) -> Option<Duration> {
        self.max_key_lifetime_days.map(|days| Duration::from_hours(24 * u64::from(days)))
    }

    pub fn session_idle(&self) -> Option<Duration> {
        self.session_idle_minutes.map(|minutes| Duration::from_mins(u64::from(minutes)))
    }
}

impl Tenant {
    pub fn new(id: TenantId, name: SystemName, now: Timestamp) -> Self {
        Self {
            id,
            name,
            policy: TenantPolicy::default(),
            suspended: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// A tenant without a row: an instance of release 0.1 has added its first operator. Named by its id.
    pub fn without_row(id: TenantId, created_at: Timestamp) -> Self {
        let name = Self::name_of(&id);
        Self { revision: 0, ..Self::new(id, name, created_at) }
    }

    /// The name of a tenant that was never given one.
    pub fn name_of(id: &TenantId) -> SystemName {
        // An id can be shorter than names that people choose.
        SystemName::unchecked(id.as_str())
    }

    /// Parses a display name as it was entered.
    pub fn parse_name(typed: &str) -> Result<SystemName, NameError> {
        SystemName::parse_with_minimum(typed, MIN_NAME_CHARACTERS)
    }

    /// Parses the id of a new tenant.
    ///
    /// # Errors
    ///
    /// `BAD_USER_INPUT` if it is malformed, or could be the id of another object.
    pub fn parse_new_id(typed: &str) -> Result<TenantId, Refusal> {
        let is_taken_by_a_kind = typed.parse::<SystemId>().is_ok()
            || typed.parse::<OperatorId>().is_ok()
            || typed.parse::<TokenId>().is_ok()
            || typed.parse::<AuditEntryId>().is_ok();
        typed.parse().ok().filter(|_| !is_taken_by_a_kind).ok_or_else(|| {
            let rule = "The id of a tenant is 1 to 63 of a-z, 0-9, - and _, begins with a letter or digit, and looks \
                        like no other object's id.";
            Refusal::BadUserInput(rule.to_owned())
        })
    }

    /// Whether its id or its name contains what is searched for.
    pub fn matches(&self, search: &Search) -> bool {
        search.matches(self.id.as_str()) || search.matches(&self.name.folded())
    }

    /// Returns the tenant with another name, or `None` if it is the same.
    pub fn rename(&self, name: SystemName, now: Timestamp) -> Option<Self> {
        (self.name.as_str() != name.as_str()).then(|| Self { name, ..self.changed(now) })
    }

    /// Returns the tenant with another policy, or `None` if it is the same.
    pub fn with_policy(&self, policy: TenantPolicy, now: Timestamp) -> Option<Self> {
        (self.policy != policy).then(|| Self { policy, ..self.changed(now) })
    }

    /// Returns the suspended tenant, or `None` if it is suspended already.
    pub fn suspend(&self, reason: Option<Reason>, now: Timestamp) -> Option<Self> {
        let suspended = Some(Suspension { at: now, reason });
        self.suspended.is_none().then(|| Self { suspended, ..self.changed(now) })
    }

    /// Returns the tenant without its suspension.
    ///
    /// # Errors
    ///
    /// `NOT_SUSPENDED`.
    pub fn resume(&self, now: Timestamp) -> Result<Self, Refusal> {
        match self.suspended {
            Some(_) => Ok(Self { suspended: None, ..self.changed(now) }),
            None => Err(Refusal::TenantNotSuspended),
        }
    }

    pub fn suspended_at(&self) -> Option<Timestamp> {
        self.suspended.as_ref().map(|suspension| suspension.at)
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_64_characters() {
        for good in ["a", "日", "Acme Corp", &"x".repeat(64)] {
            assert_eq!(Tenant::parse_name(good).unwrap().as_str(), good);
        }
        assert_eq!(Tenant::parse_name("  "), Err(NameError::Empty));
        assert_eq!(Tenant::parse_name(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(Tenant::parse_name("a\u{202e}b"), Err(NameError::Invisible('\u{202e}')));
    }

    #[test]
    fn id_of_a_new_tenant_is_that_of_no_other_object() {
        for good in ["acme", "a", "op_", "sys_1", "0-0_0"] {
            assert!(Tenant::parse_new_id(good).is_ok(), "{good}");
        }
        let ulid = "0".repeat(26);
        let taken = ["sys", "op", "tok", "aud"].map(|prefix| format!("{prefix}_{ulid}"));
        for bad in ["", "Acme", "-a", "a b"].into_iter().chain(taken.iter().map(String::as_str)) {
            assert!(matches!(Tenant::parse_new_id(bad), Err(Refusal::BadUserInput(_))), "{bad}");
        }
    }

    #[test]
    fn tenants_are_found_by_id_and_by_name() {
        let now = Timestamp::from_millis(0);
        let tenant = Tenant::new("acme-2".parse().unwrap(), Tenant::parse_name("Straße GmbH").unwrap(), now);
        for hit in ["", "ACME", "e-2", "strasse", "gmbh"] {
            assert!(tenant.matches(&Search::parse(hit)), "{hit}");
        }
        for miss in ["acme-3", ".*", "gmbh acme"] {
            assert!(!tenant.matches(&Search::parse(miss)), "{miss}");
        }
    }

    #[test]
    fn the_first_suspension_stays() {
        let now = Timestamp::from_millis(7);
        let tenant = Tenant::without_row("acme".parse().unwrap(), now);
        let reason = Reason::parse("unpaid").unwrap();
        let suspended = tenant.suspend(reason.clone(), now).unwrap();
        assert_eq!((suspended.revision, suspended.suspended_at()), (1, Some(now)));
        assert_eq!(suspended.suspend(None, now), None);
        assert_eq!(suspended.suspended.as_ref().and_then(|it| it.reason.clone()), reason);
        let resumed = suspended.resume(now).unwrap();
        assert_eq!((resumed.revision, resumed.suspended.as_ref()), (2, None));
        assert_eq!(resumed.resume(now), Err(Refusal::TenantNotSuspended));
    }
}
