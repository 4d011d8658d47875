//! The policy of a tenant: how long its keys may live, and how long sessions may be idle.

use std::time::Duration;

use super::commit::Decision;
use super::error::Error;
use super::{Enforcement, Service};
use crate::domain::audit::{AuditAction, Origin};
use crate::domain::changes::{Batch, Row};
use crate::domain::ids::TenantId;
use crate::domain::refusal::Refusal;
use crate::domain::systems::MAX_LIFETIME_DAYS;
use crate::domain::tenants::{MAX_IDLE_MINUTES, MIN_IDLE_MINUTES, Tenant, TenantPolicy};

impl Service {
    /// The longest life that the tenant's policy allows a key. `None`: any, also without an end.
    pub async fn longest_key_lifetime(&self, tenant: &TenantId) -> Result<Option<Duration>, Error> {
        Ok(self.find_tenant(tenant).await?.and_then(|tenant| tenant.policy.max_key_lifetime()))
    }

    /// Replaces the policy of a tenant by what `change` makes of it. Keys that exist keep their end. The same policy changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`; `BAD_USER_INPUT` for a value out of its range.
    pub async fn set_policy(
        &self,
        origin: &Origin,
        id: &TenantId,
        change: impl Fn(TenantPolicy) -> TenantPolicy,
    ) -> Result<(Tenant, Enforcement), Error> {
        self.require_second_format()?;
        let change = &change;
        let changed = self.change_tenant(id, |tenant| async move {
            let policy = change(tenant.policy);
            check(&policy)?;
            let Some(changed) = tenant.with_policy(policy, self.environment.now()) else {
                return Ok(Decision::Repeat(Ok((*tenant).clone())));
            };
            let event = self
                .event(origin, AuditAction::TenantPolicyChanged)
                .about_tenant(&changed)
                .with_count(policy.max_key_lifetime_days.map_or(0, u64::from));
            Ok(Decision::commit(Batch::new(id.clone(), event).replace(Row::Tenant(changed.clone())), changed))
        });
        Ok(self.wait_until_enforced(changed.await?).await)
    }
}

fn check(policy: &TenantPolicy) -> Result<(), Refusal> {
    if policy.max_key_lifetime_days.is_some_and(|days| !(1..=MAX_LIFETIME_DAYS).contains(&days)) {
        let bound = format!("The longest life of keys is from 1 to {MAX_LIFETIME_DAYS} days.");
        return Err(Refusal::BadUserInput(bound));
    }
    if policy.session_idle_minutes.is_some_and(|minutes| !(MIN_IDLE_MINUTES..=MAX_IDLE_MINUTES).contains(&minutes)) {
        let bound = format!("The idle time of sessions is from {MIN_IDLE_MINUTES} to {MAX_IDLE_MINUTES} minutes.");
        return Err(Refusal::BadUserInput(bound));
    }
    Ok(())
}
