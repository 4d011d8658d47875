//! `keymark audit …`.

use clap::Subcommand;

use super::operator::tenant;
use crate::admin::Command;
use crate::audit_text::Format;
use crate::domain::ids::TenantId;

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Write a tenant's whole log to standard output, oldest entry first.
    Export {
        /// The tenant.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// How entries are written; from JSON Lines the chain of hashes can be checked.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Format,
    },
    /// Check the chain of hashes, and name the first entry that is not what was written.
    Verify {
        /// Only this tenant's log.
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
    },
}

impl Audit {
    pub(super) fn command(self) -> Command {
        match self {
            Self::Export { tenant, format } => Command::ExportAudit { tenant, jsonl: format == Format::Jsonl },
            Self::Verify { tenant } => Command::VerifyAudit { tenant },
        }
    }
}
