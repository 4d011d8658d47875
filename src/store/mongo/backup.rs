//! MongoDB has backup tools of its own.

use std::path::Path;

use async_trait::async_trait;

use super::store::MongoStore;
use crate::store::{Backup, BackupError, BackupStore, Result};

#[async_trait]
impl BackupStore for MongoStore {
    async fn back_up(&self, _: &Path) -> Result<Result<Backup, BackupError>> {
        Ok(Err(BackupError::Unsupported))
    }
}
