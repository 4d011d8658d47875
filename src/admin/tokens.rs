//! Commands on service tokens and verifier tokens.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Output, message};
use crate::domain::audit::Origin;
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::permissions::Permissions;
use crate::domain::system_names::fold;
use crate::domain::time::Timestamp;
use crate::domain::tokens::Token;
use crate::service::Service;
use crate::service::tokens::{IssuedToken, NewToken, TokenEnd, TokenManager};

/// A command on the tokens of a tenant. Service tokens and verifier tokens have names of their own.
#[derive(Serialize, Deserialize)]
pub enum TokenCommand {
    Create {
        name: String,
        /// The codes of a service token; `None`: a verifier token.
        permissions: Option<Permissions>,
        is_platform: bool,
        life: TokenLife,
    },
    /// Replaces the secret of a service token, given by its name or id.
    Rotate { token: String, overlap_seconds: u64, life: TokenLife },
    /// Revokes a token, given by its name or id.
    Revoke { token: String, is_service: bool },
}

/// How long a token lives from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenLife {
    /// As [`TokenEnd::Default`].
    Default,
    Seconds(u64),
    Never,
}

/// Runs the command.
pub(super) async fn run(
    service: &Arc<Service>,
    origin: &Origin,
    tenant: &TenantId,
    command: TokenCommand,
    out: &mut impl Output,
) -> Result<(), String> {
    let (manager, request) = (TokenManager::CommandLine(tenant, origin), service.request(None));
    let end = |life| match life {
        TokenLife::Default => TokenEnd::Default,
        TokenLife::Never => TokenEnd::Never,
        TokenLife::Seconds(seconds) => TokenEnd::At(service.environment().now().plus(Duration::from_secs(seconds))),
    };
    let text = match command {
        TokenCommand::Create { name, permissions, is_platform, life } => {
            let name = Token::parse_name(&name).map_err(|error| error.to_string())?;
            let excess = permissions.unwrap_or_default().minus(Permissions::all_of(is_platform));
            if let Some(code) = excess.iter().next() {
                return Err(format!(
                    "only a token of the platform can hold {code}; add --platform, or leave the code out"
                ));
            }
            let new = NewToken { name, permissions, is_platform, expires_at: end(life) };
            issued(&service.create_token(manager, request, new).await.map_err(message)?)
        }
        TokenCommand::Rotate { token, overlap_seconds, life } => {
            let id = find(service, tenant, &token, true).await?;
            let overlap = Duration::from_secs(overlap_seconds);
            let rotated = service.rotate_token(manager, request, id, overlap, end(life)).await.map_err(message)?;
            if overlap.is_zero() && !rotated.enforcement.is_enforced {
                out.write(issued(&rotated)).await.map_err(|error| error.to_string())?;
                return Err("the token is replaced, but an instance may still accept the one before for some seconds"
                    .to_owned());
            }
            issued(&rotated)
        }
        TokenCommand::Revoke { token, is_service } => {
            let id = find(service, tenant, &token, is_service).await?;
            let (revoked, enforcement) =
                service.revoke_token(manager, request, id, is_service).await.map_err(message)?;
            if !enforcement.is_enforced {
                return Err("the token is revoked, but an instance may still accept it for some seconds".to_owned());
            }
            format!("revoked {}\n", line(&revoked))
        }
    };
    out.write(text).await.map_err(|error| error.to_string())
}

/// Returns a line for each token of the tenant; `None`: of all tenants.
pub(super) async fn list(service: &Service, tenant: Option<TenantId>, is_service: bool) -> Result<String, String> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => service.all_tenants().await.map_err(message)?.iter().map(|tenant| tenant.id.clone()).collect(),
    };
    let mut text = String::new();
    for tenant in tenants {
        let tokens = service.list_tokens(&tenant, is_service).await.map_err(message)?;
        let used = service.find_last_uses_of(&tokens).await.map_err(message)?;
        for (token, used) in tokens.iter().zip(used) {
            let creator = &token.created_by.name;
            text.push_str(&format!("{}\t{}\tcreated by {creator}\n", line(token), last_use(used)));
        }
    }
    Ok(text)
}

async fn find(service: &Service, tenant: &TenantId, token: &str, is_service: bool) -> Result<TokenId, String> {
    if let Ok(id) = token.parse() {
        return Ok(id);
    }
    let (tokens, name) = (service.list_tokens(tenant, is_service).await.map_err(message)?, fold(token));
    let found = tokens.iter().find(|token| token.name.folded() == name);
    found.map(|token| token.id).ok_or_else(|| format!("tenant {tenant} has no token named {token}"))
}

fn issued(issued: &IssuedToken) -> String {
    let state = if issued.enforcement.is_enforced { "" } else { "; some instances may not accept it yet" };
    format!("{}\nToken: {} (shown once{state})\n", line(&issued.token), issued.text.expose())
}

fn line(token: &Token) -> String {
    let Token { name, tenant, id, mark, .. } = token;
    let of = if token.is_platform { "platform" } else { "tenant" };
    let end = token.expires_at.map_or("never expires".to_owned(), |end| format!("expires {end}"));
    let codes = match token.permissions().codes().join(",") {
        codes if codes.is_empty() => "no permissions".to_owned(),
        codes => codes,
    };
    let line = format!("{name}\t{tenant}\t{id}\t…{mark}\t{of}\t{end}");
    if token.kind.is_service() { format!("{line}\t{codes}") } else { line }
}

fn last_use(at: Option<Timestamp>) -> String {
    at.map_or("never used".to_owned(), |at| format!("last used {at}"))
}
