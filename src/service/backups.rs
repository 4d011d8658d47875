//! Backups of a running store.

use std::path::Path;

use super::Service;
use super::error::Error;
pub use crate::store::{Backup, BackupError};

impl Service {
    /// Copies the embedded store to a new file.
    pub async fn back_up(&self, file: &Path) -> Result<Result<Backup, BackupError>, Error> {
        let outcome = self.store.back_up(file).await?;
        match &outcome {
            Ok(backup) => {
                self.metrics.backup_completed(self.environment.now(), backup.bytes);
                tracing::info!(file = %file.display(), bytes = backup.bytes, "backup completed");
            }
            Err(error) => tracing::error!(file = %file.display(), %error, "backup failed"),
        }
        Ok(outcome)
    }
}
