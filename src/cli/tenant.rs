//! `keymark tenant …`.

use clap::Subcommand;

use super::operator::tenant;
use crate::admin::Command;
use crate::domain::ids::TenantId;
use crate::domain::systems::MAX_LIFETIME_DAYS;

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// Set the longest life of a tenant's keys. Keys that exist keep their end.
    SetPolicy {
        /// The tenant.
        #[arg(value_parser = tenant)]
        tenant: TenantId,
        /// Days from the generation of a key to its expiry at most, or none.
        #[arg(long, value_name = "DAYS", value_parser = days)]
        max_key_lifetime_days: Days,
    },
}

/// A number of days; `None`: any.
#[derive(Clone, Copy)]
pub(super) struct Days(Option<u32>);

impl Tenant {
    pub(super) fn command(self) -> Command {
        let Self::SetPolicy { tenant, max_key_lifetime_days: Days(days) } = self;
        Command::SetPolicy { tenant, max_key_lifetime_days: days }
    }
}

fn days(text: &str) -> Result<Days, String> {
    if text == "none" {
        return Ok(Days(None));
    }
    let days = text.parse().ok().filter(|days| (1..=MAX_LIFETIME_DAYS).contains(days));
    days.map(|days| Days(Some(days))).ok_or_else(|| format!("expected 1 to {MAX_LIFETIME_DAYS}, or none"))
}
