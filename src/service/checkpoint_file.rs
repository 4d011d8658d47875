//! The file with the newest checkpoint of each tenant, beside the embedded store.
//!
//! It shows that the store was changed, or that an older one was put in its place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::audit_text::{self, Format};
use crate::domain::checkpoints::Checkpoint;
use crate::files;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "audit-checkpoints.jsonl";

/// Reads the checkpoints in a data directory; none if there is no file.
pub fn read_in(directory: &Path) -> io::Result<Vec<Checkpoint>> {
    read(&directory.join(FILE_NAME))
}

fn read(path: &Path) -> io::Result<Vec<Checkpoint>> {
    match File::open(path) {
        Ok(file) => audit_text::verification::read_checkpoints(BufReader::new(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(super) struct CheckpointFile {
    path: PathBuf,
    /// Held while the file is replaced, so that no checkpoint is lost.
    replacing: Mutex<()>,
}

impl CheckpointFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join(FILE_NAME), replacing: Mutex::default() }
    }

    pub(super) fn read(&self) -> io::Result<Vec<Checkpoint>> {
        read(&self.path)
    }

    /// Replaces the checkpoints of the tenants in `newest`, atomically.
    pub(super) fn replace(&self, newest: &[Checkpoint]) -> io::Result<()> {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read()?;
        let by_tenant: BTreeMap<_, _> = before.iter().chain(newest).map(|each| (&each.tenant, each)).collect();
        let lines = by_tenant.into_values().map(|each| audit_text::checkpoint_line(each, Format::Jsonl));
        files::replace(&self.path, lines.collect::<String>().as_bytes())
    }
}
