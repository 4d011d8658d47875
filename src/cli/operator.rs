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
        /// Permission codes, separated by commas: view, create, edit, delete, operators:view, operators:edit (or in full,
        /// api_key_management:view, …, operator_management:view, …); or all; or none.
        #[arg(long, default_value = "none", value_parser = codes)]
        permissions: Codes,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List operators, one per line: username, tenant, id and permission codes, and whether they are of the platform or
    /// suspended.
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
        /// Permission codes, separated by commas: view, create, edit, delete, operators:view, operators:edit, and for
        /// operators of the platform tenants:view, tenants:edit (or in full, api_key_management:view, …); or all that the
        /// operator can hold; or none.
        #[arg(value_parser = codes)]
        permissions: Codes,
    },
    /// Make an operator one of the platform, who may act in every tenant.
    Promote {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
        /// Permission codes, as for set-permissions.
        #[arg(long, default_value = "all", value_parser = codes)]
        permissions: Codes,
    },
    /// Suspend an operator, who cannot sign in then, and end their sessions.
    Suspend {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
    },
    /// Let a suspended operator sign in again.
    Resume {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
    },
    /// List where an operator is signed in, one session per line: start, last use, end, network and client.
    Sessions {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
    },
    /// End all sessions of an operator.
    EndSessions {
        /// Username of the operator.
        #[arg(value_parser = username)]
        username: Username,
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
                let permissions = permissions.of(false);
                Command::AddOperator { tenant, username, password: password.read().await?, permissions }
            }
            Self::List { tenant } => Command::ListOperators { tenant },
            Self::SetPermissions { username, permissions: Codes(permissions) } => Command::SetPermissions {
                username,
                permissions: permissions.unwrap_or_default(),
                all: permissions.is_none(),
            },
            Self::Promote { username, permissions } => {
                Command::PromoteOperator { username, permissions: permissions.0 }
            }
            Self::Suspend { username } => Command::SuspendOperator { username },
            Self::Resume { username } => Command::ResumeOperator { username },
            Self::Sessions { username } => Command::ListSessions { username },
            Self::EndSessions { username } => Command::EndSessions { username },
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

/// Permission codes; `None`: all that the operator or token can hold.
#[derive(Clone, Copy)]
pub(super) struct Codes(Option<Permissions>);

impl Codes {
    /// `all`: the codes that an operator or token of this kind can hold.
    pub(super) fn of(self, is_platform: bool) -> Permissions {
        self.0.unwrap_or(Permissions::all_of(is_platform))
    }
}

/// Short for the first part of each code.
const SHORT_FORMS: [(&str, &str); 2] = [("operators:", "operator_management:"), ("tenants:", "tenant_management:")];

pub(super) fn codes(text: &str) -> Result<Codes, String> {
    match text {
        "all" => return Ok(Codes(None)),
        "none" | "" => return Ok(Codes(Some(Permissions::NONE))),
        _ => {}
    }
    let code = |word: &str| {
        let word = word.trim();
        let short =
            SHORT_FORMS.iter().find_map(|(short, long)| word.strip_prefix(short).map(|code| format!("{long}{code}")));
        let full = match short {
            Some(full) => full,
            None if word.contains(':') => word.to_owned(),
            None => format!("api_key_management:{word}"),
        };
        full.parse::<Permission>().map_err(|_| {
            format!(
                "`{word}` is not view, create, edit, delete, operators:view, operators:edit, tenants:view, tenants:edit, \
                 all or none"
            )
        })
    };
    text.split(',').map(code).collect::<Result<Permissions, _>>().map(|permissions| Codes(Some(permissions)))
}
