//! `keymark audit follow`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::administer_to;
use crate::admin::{self, Command, Output, Stdout};
use crate::app::{self, StartError};
use crate::config::{Config, StoreConfig};
use crate::domain::actors::CommandUser;
use crate::domain::audit::AuditHead;
use crate::domain::exports::ExportedEntry;
use crate::domain::ids::TenantId;
use crate::files;

/// The content of a cursor file.
#[derive(Serialize, Deserialize)]
struct Cursor {
    tenant: TenantId,
    #[serde(flatten)]
    last: AuditHead,
}

pub(super) async fn run(
    config: Config,
    tenant: TenantId,
    cursor_file: Option<PathBuf>,
    user: Option<&CommandUser>,
) -> Result<(), StartError> {
    let after = cursor_file.as_deref().map(|file| read_cursor(file, &tenant)).transpose()?.flatten();
    let mut out = Followed { tenant: tenant.clone(), cursor_file, is_closed: false };
    let following = follow(config, tenant, after, user, &mut out);
    let mut terminated = app::termination()?;
    let outcome = tokio::select! {
        outcome = following => outcome,
        () = terminated() => Ok(()),
    };
    if out.is_closed { Ok(()) } else { outcome }
}

/// Follows the log in the server that uses the embedded store. Without one it ends after the last entry, since it would
/// keep a server from starting.
async fn follow(
    config: Config,
    tenant: TenantId,
    after: Option<AuditHead>,
    user: Option<&CommandUser>,
    out: &mut Followed,
) -> Result<(), StartError> {
    let command = |ends| Command::FollowAudit { tenant: tenant.clone(), after, ends };
    let StoreConfig::Embedded { directory, .. } = &config.store else {
        return administer_to(config, command(false), user, out).await;
    };
    if let Some(outcome) = admin::run_remotely(directory, &command(false), user, out).await {
        return outcome.map_err(StartError::Failed);
    }
    tracing::warn!("no server runs on the store; ending after its last entry");
    administer_to(config, command(true), user, out).await
}

fn read_cursor(file: &Path, tenant: &TenantId) -> Result<Option<AuditHead>, StartError> {
    let in_file = |error: &dyn std::fmt::Display| StartError::Failed(format!("{}: {error}", file.display()));
    match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_file(&error)),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(Cursor { tenant: of, last }) if of == *tenant => Ok(Some(last)),
            Ok(Cursor { tenant: of, .. }) => {
                Err(in_file(&format!("it is the cursor of tenant {of}; use one file for each")))
            }
            Err(_) => Err(in_file(&"it is no cursor; name another file")),
        },
    }
}

/// Standard output, and the cursor file, which is replaced after each text that was written.
struct Followed {
    tenant: TenantId,
    cursor_file: Option<PathBuf>,
    /// Nobody reads the output any more.
    is_closed: bool,
}

impl Output for Followed {
    async fn write(&mut self, text: String) -> io::Result<()> {
        let last = text.lines().next_back().and_then(|line| serde_json::from_str::<ExportedEntry>(line).ok());
        let written = Stdout.write(text).await;
        self.is_closed = written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
        written?;
        if let (Some(file), Some(last)) = (&self.cursor_file, last) {
            let cursor = Cursor { tenant: self.tenant.clone(), last: last.entry.head() };
            files::replace(file, format!("{}\n", serde_json::to_string(&cursor)?).as_bytes())?;
        }
        Ok(())
    }
}
