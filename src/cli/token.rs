//! `keymark token …` and `keymark verifier-token …`.

use clap::{Args, Subcommand};

use super::operator::{Codes, codes, tenant};
use crate::admin::Command;
use crate::admin::tokens::{TokenCommand, TokenLife};
use crate::domain::ids::TenantId;

#[derive(Args)]
pub(super) struct OfTenant {
    /// Tenant of the token.
    #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
    tenant: TenantId,
}

#[derive(Subcommand)]
pub(super) enum ServiceToken {
    /// Create a service token and print it once.
    Create {
        /// Name of the token, unique among the tenant's service tokens.
        name: String,
        #[command(flatten)]
        tenant: OfTenant,
        /// Permission codes, separated by commas: view, create, edit, delete, operators:view, operators:edit, and with
        /// --platform tenants:view, tenants:edit (or in full, api_key_management:view, …); or all; or none.
        #[arg(long, value_parser = codes)]
        permissions: Codes,
        /// Let the token act in every tenant.
        #[arg(long)]
        platform: bool,
        /// Life of the token: days or hours, such as 90d or 12h, or never.
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = life)]
        expires_in: TokenLife,
    },
    /// List service tokens, one per line: name, tenant, id, mark, reach, expiry, permission codes, last use and creator.
    List {
        /// List only tokens of this tenant.
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
    },
    /// Replace the secret of a service token, and print the new token once. The one before is accepted for the overlap.
    Rotate {
        /// Name or id of the token.
        token: String,
        #[command(flatten)]
        tenant: OfTenant,
        /// Seconds for which the secret before is accepted: 0 to 2592000 (30 days).
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        overlap: u64,
        /// Life of the token from now: days or hours, such as 90d or 12h, or never. Without it, the token keeps its end.
        #[arg(long, value_name = "TIME", value_parser = life)]
        expires_in: Option<TokenLife>,
    },
    /// Revoke a service token. Takes effect on every instance before the command returns.
    Revoke {
        /// Name or id of the token.
        token: String,
        #[command(flatten)]
        tenant: OfTenant,
    },
}

#[derive(Subcommand)]
pub(super) enum VerifierToken {
    /// Create a verifier token and print it once.
    Create {
        /// Name of the token, unique among the tenant's verifier tokens.
        name: String,
        #[command(flatten)]
        tenant: OfTenant,
        /// Let the token verify keys of all tenants.
        #[arg(long)]
        platform: bool,
        /// Life of the token: days or hours, such as 90d or 12h, or never.
        #[arg(long, value_name = "TIME", default_value = "never", value_parser = life)]
        expires_in: TokenLife,
    },
    /// List verifier tokens, one per line: name, tenant, id, mark, reach, expiry, last use and creator.
    List {
        /// List only tokens of this tenant.
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
    },
    /// Revoke a verifier token. Takes effect on every instance before the command returns.
    Revoke {
        /// Name or id of the token.
        token: String,
        #[command(flatten)]
        tenant: OfTenant,
    },
}

impl ServiceToken {
    pub(super) fn command(self) -> Command {
        match self {
            Self::Create { name, tenant, permissions, platform, expires_in } => {
                let permissions = Some(permissions.of(platform));
                of(tenant, TokenCommand::Create { name, permissions, is_platform: platform, life: expires_in })
            }
            Self::List { tenant } => Command::ListTokens { tenant, is_service: true },
            Self::Rotate { token, tenant, overlap, expires_in } => {
                let life = expires_in.unwrap_or(TokenLife::Default);
                of(tenant, TokenCommand::Rotate { token, overlap_seconds: overlap, life })
            }
            Self::Revoke { token, tenant } => of(tenant, TokenCommand::Revoke { token, is_service: true }),
        }
    }
}

impl VerifierToken {
    pub(super) fn command(self) -> Command {
        match self {
            Self::Create { name, tenant, platform, expires_in } => {
                of(tenant, TokenCommand::Create { name, permissions: None, is_platform: platform, life: expires_in })
            }
            Self::List { tenant } => Command::ListTokens { tenant, is_service: false },
            Self::Revoke { token, tenant } => of(tenant, TokenCommand::Revoke { token, is_service: false }),
        }
    }
}

fn of(OfTenant { tenant }: OfTenant, command: TokenCommand) -> Command {
    Command::Token { tenant, command }
}

fn life(text: &str) -> Result<TokenLife, String> {
    if text == "never" {
        return Ok(TokenLife::Never);
    }
    let seconds = text.char_indices().next_back().and_then(|(unit_at, unit)| {
        let unit = match unit {
            'd' => 86_400,
            'h' => 3_600,
            _ => return None,
        };
        // Beyond 36,500 days is a mistake.
        text[..unit_at].parse().ok().filter(|count| (1..=876_000).contains(count)).map(|count: u64| count * unit)
    });
    let seconds = seconds.filter(|seconds| *seconds <= 36_500 * 86_400);
    seconds.map(TokenLife::Seconds).ok_or_else(|| "expected days or hours, such as 90d or 12h, or never".to_owned())
}
