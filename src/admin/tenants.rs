//! Commands on tenants.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{message, platform_warning};
use crate::domain::audit::Origin;
use crate::domain::ids::TenantId;
use crate::domain::refusal::Refusal;
use crate::domain::tenants::{Tenant, TenantPolicy};
use crate::domain::texts::Reason;
use crate::service::Service;
use crate::service::error::Error;
use crate::service::tenants::TenantOverview;

#[derive(Serialize, Deserialize)]
pub enum TenantCommand {
    /// Without a name, the id is the name.
    Create {
        id: String,
        name: Option<String>,
    },
    List,
    Rename {
        id: TenantId,
        name: String,
    },
    /// Sets what is given of a policy.
    SetPolicy {
        id: TenantId,
        max_key_lifetime_days: Option<Limit>,
        session_idle_minutes: Option<Limit>,
    },
    Suspend {
        id: TenantId,
        reason: Option<String>,
    },
    Resume {
        id: TenantId,
    },
    Delete {
        id: TenantId,
    },
}

/// A number of days or minutes, or no limit.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Limit {
    None,
    AtMost(u32),
}

impl From<Limit> for Option<u32> {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::None => None,
            Limit::AtMost(limit) => Some(limit),
        }
    }
}

pub(super) async fn run(service: &Arc<Service>, origin: &Origin, command: TenantCommand) -> Result<String, String> {
    let changed = match command {
        TenantCommand::List => {
            let tenants = service.describe_tenants().await.map_err(message)?;
            return Ok(tenants.iter().map(line).collect());
        }
        TenantCommand::Create { id, name } => {
            let id = Tenant::parse_new_id(&id).map_err(|refusal| refusal.to_string())?;
            let name = name.unwrap_or_else(|| id.as_str().to_owned());
            let created = service.create_tenant(origin, &id, &name).await;
            let (tenant, enforcement) = created.map_err(|error| message_about(&id, error))?;
            let pending = if enforcement.is_enforced {
                ""
            } else {
                "warning: committed, but an instance may not have received it yet\n"
            };
            let next =
                format!("Add its first operator: keymark operator add USERNAME --tenant {id} --permissions all\n");
            return Ok(format!("created {}{pending}{next}", description(&tenant)));
        }
        TenantCommand::Delete { id } => {
            let mut operators = service.list_operators(Some(&id)).await.map_err(message)?;
            operators.retain(|operator| operator.is_platform);
            service.delete_tenant(origin, &id).await.map_err(|error| message_about(&id, error))?;
            let mut text = format!("deleted {id}; its audit log stays\n");
            if !operators.is_empty() {
                let names: Vec<_> = operators.iter().map(|operator| operator.username.as_str()).collect();
                let warning = platform_warning(service).await?;
                text.push_str(&format!("warning: removed operators of the platform: {}\n{warning}", names.join(", ")));
            }
            return Ok(text);
        }
        TenantCommand::Rename { id, name } => (service.rename_tenant(origin, &id, &name).await, id),
        TenantCommand::SetPolicy { id, max_key_lifetime_days: days, session_idle_minutes: minutes } => {
            let set = |policy: TenantPolicy| TenantPolicy {
                max_key_lifetime_days: days.map_or(policy.max_key_lifetime_days, Into::into),
                session_idle_minutes: minutes.map_or(policy.session_idle_minutes, Into::into),
            };
            (service.set_policy(origin, &id, set).await, id)
        }
        TenantCommand::Suspend { id, reason } => {
            let reason = Reason::parse(&reason.unwrap_or_default()).map_err(|error| error.to_string())?;
            (service.suspend_tenant(origin, &id, reason).await, id)
        }
        TenantCommand::Resume { id } => (service.resume_tenant(origin, &id).await, id),
    };
    let (changed, id) = changed;
    let (tenant, enforcement) = changed.map_err(|error| message_about(&id, error))?;
    if enforcement.is_enforced { Ok(description(&tenant)) } else { Err(message(Error::NotEnforced)) }
}

fn message_about(id: &TenantId, error: Error) -> String {
    match error {
        Error::Refused(Refusal::TenantNotFound) => format!("tenant {id} not found"),
        Error::Refused(Refusal::TenantIdTaken) => format!("tenant {id} exists already"),
        error => message(error),
    }
}

/// Id, name, state and policy, separated by tabs.
fn description(tenant: &Tenant) -> String {
    let Tenant { id, name, policy, .. } = tenant;
    let state = tenant.suspended_at().map_or("active".to_owned(), |at| format!("suspended since {at}"));
    let days = policy.max_key_lifetime_days.map_or("any life of keys".to_owned(), |days| format!("keys {days} days"));
    let minutes = policy.session_idle_minutes;
    let minutes = minutes.map_or(String::new(), |minutes| format!(", sessions idle {minutes} minutes"));
    format!("{id}\t{name}\t{state}\t{days}{minutes}\n")
}

fn line(tenant: &TenantOverview) -> String {
    let TenantOverview { tenant, systems, has_operator } = tenant;
    let description = description(tenant);
    let warning = if *has_operator { "" } else { "\twarning: no operator" };
    format!("{}\t{systems} systems{warning}\n", description.trim_end_matches('\n'))
}
