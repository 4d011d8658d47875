//! `keymark audit …`.

use clap::Subcommand;

use super::operator::tenant;
use crate::admin::Command;
use crate::audit_text::Format;
use crate::domain::ids::TenantId;

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Write a tenant's log to standard output, oldest entry first.
    Export {
        /// The tenant.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// Format of the entries. The chain of hashes can be verified from JSON Lines.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Format,
    },
    /// Verify the chain of hashes, and report the first entry that was modified or is missing.
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
