//! Tenants: the customers of a platform, each with its systems, operators and tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::TenantId;
use super::refusal::Refusal;
use super::system_names::{NameError, SystemName};
use super::systems::Suspension;
use super::texts::Reason;
use super::time::Timestamp;

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
        SystemName::parse(typed)
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
