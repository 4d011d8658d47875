//! The policy of a tenant: how long its keys may live.

use std::time::Duration;

use super::error::Error;
use super::{Service, origin};
use crate::domain::actors::AuditActor;
use crate::domain::audit::AuditAction;
use crate::domain::changes::Batch;
use crate::domain::ids::TenantId;
use crate::domain::refusal::Refusal;
use crate::domain::systems::MAX_LIFETIME_DAYS;

/// Prefix of the settings with the longest life of a tenant's keys, in days.
const LONGEST_LIFETIME: &str = "longest-key-lifetime-days:";

impl Service {
    /// The longest life that the tenant's policy allows a key. `None`: any, also without an end.
    pub async fn longest_key_lifetime(&self, tenant: &TenantId) -> Result<Option<Duration>, Error> {
        let name = setting(tenant);
        let settings = self.store.list_settings(&name).await?;
        let days = settings.into_iter().find(|(found, _)| *found == name).and_then(|(_, days)| days.parse().ok());
        Ok(days.map(|days: u32| Duration::from_hours(24 * u64::from(days))))
    }

    /// Sets the longest life of a tenant's keys in days; `None`: any. Keys that exist keep their end.
    ///
    /// # Errors
    ///
    /// `BAD_USER_INPUT` unless it is from 1 to [`MAX_LIFETIME_DAYS`]; `CONFLICT` if it was changed at the same time.
    pub async fn set_longest_key_lifetime(&self, tenant: &TenantId, days: Option<u32>) -> Result<(), Error> {
        if days.is_some_and(|days| !(1..=MAX_LIFETIME_DAYS).contains(&days)) {
            let bound = format!("The longest life of keys is from 1 to {MAX_LIFETIME_DAYS} days.");
            return Err(Refusal::BadUserInput(bound).into());
        }
        let name = setting(tenant);
        let value = days.map_or_else(|| "none".to_owned(), |days| days.to_string());
        let before = self.store.find_setting(&name).await?;
        if before.as_deref().unwrap_or("none") == value {
            return Ok(());
        }
        if !self.store.replace_setting(&name, before.as_deref(), &value).await? {
            return Err(Refusal::Conflict.into());
        }
        let event = self
            .event(&origin(AuditActor::command_line(), self.request(None)), AuditAction::TenantPolicyChanged)
            .with_count(days.map_or(0, u64::from));
        // Operations read the setting itself.
        self.commit(Batch::new(tenant.clone(), event)).await?.without_waiting();
        Ok(())
    }
}

fn setting(tenant: &TenantId) -> String {
    format!("{LONGEST_LIFETIME}{tenant}")
}
