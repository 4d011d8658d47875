//! `keymark tenant …`.

use std::ops::RangeInclusive;

use clap::Subcommand;

use super::operator::tenant;
use crate::admin::Command;
use crate::admin::tenants::{Limit, TenantCommand};
use crate::domain::ids::TenantId;
use crate::domain::systems::MAX_LIFETIME_DAYS;
use crate::domain::tenants::{MAX_IDLE_MINUTES, MIN_IDLE_MINUTES};

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// Create a tenant. Add its first operator with `keymark operator add --tenant`.
    Create {
        /// Id of the tenant, which never changes: 1 to 63 of a-z, 0-9, - and _.
        id: String,
        /// Display name of 1 to 64 characters.
        ///
        /// [default: the id]
        #[arg(long)]
        name: Option<String>,
    },
    /// List tenants, one per line: id, name, whether it is suspended, policy and number of systems.
    List,
    /// Change the display name of a tenant.
    Rename {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
        /// Display name of 1 to 64 characters.
        #[arg(long)]
        name: String,
    },
    /// Set the rules for a tenant's keys and sessions. Keys that exist keep their end.
    #[command(group(clap::ArgGroup::new("rules").required(true).multiple(true)))]
    SetPolicy {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
        /// Days from the generation of a key to its expiry at most, or none.
        #[arg(long, value_name = "DAYS", value_parser = days, group = "rules")]
        max_key_lifetime_days: Option<Limit>,
        /// Minutes for which a session may be idle, or none for the setting of the server.
        #[arg(long, value_name = "MINUTES", value_parser = minutes, group = "rules")]
        session_idle_minutes: Option<Limit>,
    },
    /// Suspend a tenant: its keys, sessions and tokens are refused on every instance before the command returns.
    Suspend {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
        /// Why, for the audit log: at most 200 characters.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a suspended tenant.
    Resume {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
    },
    /// Delete a tenant without systems, with its operators and tokens. Its audit log stays.
    Delete {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
    },
}

impl Tenant {
    pub(super) fn command(self) -> Command {
        Command::Tenant(match self {
            Self::Create { id, name } => TenantCommand::Create { id, name },
            Self::List => TenantCommand::List,
            Self::Rename { tenant: id, name } => TenantCommand::Rename { id, name },
            Self::SetPolicy { tenant: id, max_key_lifetime_days, session_idle_minutes } => {
                TenantCommand::SetPolicy { id, max_key_lifetime_days, session_idle_minutes }
            }
            Self::Suspend { tenant: id, reason } => TenantCommand::Suspend { id, reason },
            Self::Resume { tenant: id } => TenantCommand::Resume { id },
            Self::Delete { tenant: id } => TenantCommand::Delete { id },
        })
    }
}

fn days(text: &str) -> Result<Limit, String> {
    limit(text, 1..=MAX_LIFETIME_DAYS)
}

fn minutes(text: &str) -> Result<Limit, String> {
    limit(text, MIN_IDLE_MINUTES..=MAX_IDLE_MINUTES)
}

fn limit(text: &str, range: RangeInclusive<u32>) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit::None);
    }
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.map(Limit::AtMost).ok_or_else(|| format!("expected {} to {}, or none", range.start(), range.end()))
}
