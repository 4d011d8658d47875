//! `keymark backup` and `keymark restore`.

use std::path::{Path, PathBuf};

use super::{administer, print};
use crate::admin::Command;
use crate::app::{self, Restoration, StartError};
use crate::config::{Config, ConfigError, StoreConfig};
use crate::domain::actors::CommandUser;

/// Copies the embedded store, in the server that uses it or, without one, in this process.
pub(super) async fn back_up(config: Config, file: &Path, user: Option<&CommandUser>) -> Result<(), StartError> {
    let StoreConfig::Embedded { directory, .. } = &config.store else {
        let reason =
            "the store is in MongoDB: use mongodump --oplog, or snapshots; see \"Backups\" in docs/operations.md";
        return Err(ConfigError::new("keymark backup", reason).into());
    };
    let secret = app::secret_file(directory);
    // A running server may have another working directory.
    let file = std::path::absolute(file).map_err(|error| StartError::Failed(error.to_string()))?;
    let mut terminated = app::termination()?;
    tokio::select! {
        outcome = administer(config, Command::BackUp { file }, user) => outcome?,
        () = terminated() => return Err(StartError::Failed("interrupted; no backup was made".to_owned())),
    }
    if let Some(secret) = secret {
        print(format_args!(
            "It does not contain the root secret, without which no key verifies: keep a copy of {}\n",
            secret.display()
        ))?;
    }
    Ok(())
}

/// Puts a backup in the place of the embedded store, with a raised epoch.
pub(super) async fn restore(
    mut config: Config,
    file: PathBuf,
    replace: bool,
    user: Option<&CommandUser>,
) -> Result<(), StartError> {
    let restoration = Restoration::prepare(&mut config, &file, replace)?;
    administer(config, Command::MarkRestored, user).await?;
    let (place, aside) = restoration.finish()?;
    print(format_args!("{} is restored from {}\n", place.display(), file.display()))?;
    if let Some(aside) = aside {
        print(format_args!("The store that was there is {}\n", aside.display()))?;
    }
    Ok(())
}
