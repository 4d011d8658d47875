//! `keymark operator …`.

use clap::{Args, Subcommand};
use tokio::io::AsyncReadExt;

use crate::admin::Command;
use crate::app::StartError;
use crate::domain::ids::TenantId;
use crate::domain::operators::Username;
use crate::domain::permissions::{Permission, Permissions};

#[derive(Subcommand)]
pub(super) enum Operator {
    /// Add an operator. Without --password-stdin a password is generated and printed once.
    Add {
        /// Username to sign in with.
        #[arg(value_parser = username)]
        username: Username,
        /// Tenant of the operator.
        #[arg(long, default_value = TenantId::DEFAULT, value_parser = tenant)]
        tenant: TenantId,
        /// Permission codes, separated by commas: view, create, edit, delete (or in full, api_key_management:view, …);
        /// or all; or none.
        #[arg(long, default_value = "none", value_parser = permissions)]
        permissions: Permissions,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List operators, one per line: username, tenant, id and permission codes.
    List {
        /// List only operators of this tenant.
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
    },
    /// Replace the permission codes of an operator. Takes effect immediately, on every instance.
    SetPermissions {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
        /// Permission codes, separated by commas: view, create, edit, delete (or in full, api_key_management:view, …);
        /// or all; or none.
        #[arg(value_parser = permissions)]
        permissions: Permissions,
    },
    /// Replace the password of an operator, and end their sessions. Without --password-stdin a password is generated and
    /// printed once.
    SetPassword {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Remove an operator, and end their sessions.
    Remove {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
    },
}

#[derive(Args)]
pub(super) struct PasswordSource {
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

impl PasswordSource {
    async fn read(&self) -> Result<Option<String>, StartError> {
        if !self.password_stdin {
            return Ok(None);
        }
        let mut text = String::new();
        let read = tokio::io::stdin().take(4096).read_to_string(&mut text).await;
        read.map_err(|error| StartError::Failed(format!("--password-stdin: {error}")))?;
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }
}

impl Operator {
    pub(super) async fn command(self) -> Result<Command, StartError> {
        Ok(match self {
            Self::Add { username, tenant, permissions, password } => {
                Command::AddOperator { tenant, username, password: password.read().await?, permissions }
            }
            Self::List { tenant } => Command::ListOperators { tenant },
            Self::SetPermissions { username, permissions } => Command::SetPermissions { username, permissions },
            Self::SetPassword { username, password } => {
                Command::SetPassword { username, password: password.read().await? }
            }
            Self::Remove { username } => Command::RemoveOperator { username },
        })
    }
}

pub(super) fn tenant(text: &str) -> Result<TenantId, String> {
    text.parse().map_err(|_| "a tenant is 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit".to_owned())
}

fn username(text: &str) -> Result<Username, String> {
    text.parse().map_err(|error: crate::domain::operators::NotAUsername| error.to_string())
}

pub(super) fn permissions(text: &str) -> Result<Permissions, String> {
    match text {
        "all" => return Ok(Permissions::all_of(false)),
        "none" | "" => return Ok(Permissions::NONE),
        _ => {}
    }
    let named = |word: &str| {
        let word = word.trim();
        let of_this_name = |permission: &Permission| {
            let code = permission.code();
            code == word || code.rsplit(':').next() == Some(word)
        };
        let known = Permission::ALL.into_iter().find(of_this_name);
        known.ok_or_else(|| format!("`{word}` is not view, create, edit, delete, all or none"))
    };
    text.split(',').map(named).collect()
}
