//! Putting a backup in the place of the embedded store.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{SECRET_NAME, StartError, contains_store, create_directory, in_directory, missing_secret};
use crate::clock::Environment;
use crate::config::{Config, ConfigError, StoreConfig, root_secret};
use crate::service::checkpoint_file;
use crate::store::embedded::{self, Held};

/// A checked copy of a backup beside the data directory's store, which is untouched until [`finish`](Self::finish).
pub struct Restoration {
    directory: PathBuf,
    draft: Draft,
    /// Keeps servers from the store that is replaced.
    replaced: Option<Held>,
}

impl Restoration {
    /// Copies and checks the backup. Afterwards, `config` names the copy as its store, with the root secret of the data
    /// directory.
    pub fn prepare(config: &mut Config, file: &Path, replace: bool) -> Result<Self, StartError> {
        let StoreConfig::Embedded { directory, cache_bytes } = &config.store else {
            let reason = "the store is in MongoDB: use mongorestore, or snapshots, and then `keymark restored`";
            return Err(ConfigError::new("keymark restore", reason).into());
        };
        let (directory, cache_bytes) = (directory.clone(), *cache_bytes);
        let failed = |error: io::Error| in_directory(&directory, &error);
        let in_file = |error: &dyn std::fmt::Display| StartError::Failed(format!("{}: {error}", file.display()));
        let mut backup = File::open(file).map_err(|error| in_file(&error))?;
        create_directory(&directory)?;
        let replaced = match contains_store(&directory) {
            false => None,
            true if replace => Some(embedded::hold(&directory).map_err(|error| in_directory(&directory, &error))?),
            true => {
                let reason = "it contains a store; use --replace to restore the backup in its place";
                return Err(in_directory(&directory, &reason));
            }
        };
        if config.secret.is_none() {
            let path = directory.join(SECRET_NAME);
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing_secret(&path).into()),
                read => read.map_err(failed)?,
            };
            config.secret = Some(root_secret(&path.display().to_string(), bytes)?);
        }
        // In a container every process has the same id, so an interrupted restore may have left a draft of this name.
        let name = format!("restore.{}", std::process::id());
        let draft = Draft::begin_anew(&directory, &name).map_err(failed)?;
        let copy = draft.0.join(embedded::FILE_NAME);
        let copied = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
        copied.and_then(|mut copy| io::copy(&mut backup, &mut copy).and_then(|_| copy.sync_all())).map_err(failed)?;
        embedded::check_file(&copy).map_err(|error| in_file(&error))?;
        // It shows which entries the backup lacks.
        let checkpoints = directory.join(checkpoint_file::FILE_NAME);
        match std::fs::copy(&checkpoints, draft.0.join(checkpoint_file::FILE_NAME)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(in_directory(&checkpoints, &error)),
            _ => {}
        }
        config.store = StoreConfig::Embedded { directory: draft.0.clone(), cache_bytes };
        Ok(Self { directory, draft, replaced })
    }

    /// Puts the copy in its place. Returns the path of the store, and that of the one it replaces.
    pub fn finish(self) -> Result<(PathBuf, Option<PathBuf>), StartError> {
        let (copy, place) = (self.draft.0.join(embedded::FILE_NAME), self.directory.join(embedded::FILE_NAME));
        let aside = self.replaced.as_ref().map(|_| {
            let now = Environment::system().now().as_millis();
            self.directory.join(format!("{}.replaced-{now}", embedded::FILE_NAME))
        });
        let put = || match &aside {
            // The name of the store always has a whole file.
            Some(aside) => std::fs::hard_link(&place, aside).and_then(|()| std::fs::rename(&copy, &place)),
            None => std::fs::hard_link(&copy, &place),
        };
        let put = put().and_then(|()| File::open(&self.directory)?.sync_all());
        put.map_err(|error| in_directory(&self.directory, &error))?;
        Ok((place, aside))
    }
}

/// A directory for a store that is not complete yet. It is removed when this is dropped.
pub(super) struct Draft(pub(super) PathBuf);

impl Draft {
    /// Removes what an interrupted process has left under the same name.
    pub(super) fn begin_anew(directory: &Path, name: &str) -> io::Result<Self> {
        let draft = directory.join(name);
        if contains_store(&draft) {
            drop(embedded::hold(&draft).map_err(io::Error::other)?);
        }
        match std::fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&draft)?;
        Ok(Self(draft))
    }

    /// Puts the store into the directory, unless one has appeared there.
    pub(super) fn publish(self, directory: &Path) -> io::Result<()> {
        std::fs::hard_link(self.0.join(embedded::FILE_NAME), directory.join(embedded::FILE_NAME))?;
        File::open(directory)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, directory = %self.0.display(), "directory of a restore not removed");
        }
    }
}

/// The file with the root secret, if it is in the data directory.
pub fn secret_file(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(SECRET_NAME)).filter(|file| file.exists())
}
