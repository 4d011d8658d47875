//! Durable changes of files.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    #[error("the file exists; choose another name")]
    Exists,
    #[error("another process writes this file, or was interrupted: {0} exists; remove it if none does")]
    Unfinished(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A new file, which has its name once it is complete. It is removed if it is dropped before.
pub struct NewFile {
    file: PathBuf,
    partial: PathBuf,
}

impl NewFile {
    /// Creates the file under a name with the suffix `.partial`, with mode 0600 whatever the permissions of the directory.
    pub fn create(file: &Path) -> Result<Self, NewFileError> {
        if file.try_exists()? {
            return Err(NewFileError::Exists);
        }
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(NewFileError::Unfinished(partial.display().to_string()))
            }
            created => {
                created?;
                Ok(Self { file: file.to_owned(), partial })
            }
        }
    }

    /// The name until the file is complete.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Makes the file durable under its name, unless the name is taken meanwhile. Returns its size.
    pub fn publish(self) -> Result<u64, NewFileError> {
        let written = File::open(&self.partial)?;
        written.sync_all()?;
        match std::fs::hard_link(&self.partial, &self.file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(NewFileError::Exists),
            linked => linked?,
        }
        let file = self.file.clone();
        drop(self);
        sync_directory_of(&file)?;
        Ok(written.metadata()?.len())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.partial) {
            tracing::warn!(%error, file = %self.partial.display(), "unfinished file not removed");
        }
    }
}

/// Replaces a file, or creates it, with mode 0600. At any time it has its old or its new content as a whole.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".draft");
    let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    written.write_all(content)?;
    written.sync_all()?;
    std::fs::rename(&draft, file)?;
    sync_directory_of(file)
}

/// Makes the name of a file durable.
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
