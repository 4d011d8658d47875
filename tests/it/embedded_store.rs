//! The contract suite on the embedded store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keymark::domain::audit::AuditAction;
use keymark::domain::changes::Position;
use keymark::store::Store;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use tempfile::TempDir;

use crate::contract::fixtures::{commit, follow, tenant};
use crate::contract::{Factory, contract_suite};

contract_suite!(contract, EmbeddedFactory::default());

/// Number of changes that the feed of a new store keeps: more than a case commits while it follows, and few enough to
/// exceed quickly.
const MAX_FEED_CHANGES: u64 = 256;

/// Each store has a directory of its own. A crash leaves a copy of the file in the next one.
#[derive(Default)]
struct EmbeddedFactory(Mutex<Vec<TempDir>>);

impl EmbeddedFactory {
    fn fresh_directory(&self) -> PathBuf {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().to_owned();
        self.0.lock().unwrap().push(directory);
        path
    }

    fn last_directory(&self) -> PathBuf {
        self.0.lock().unwrap().last().expect("a store was opened").path().to_owned()
    }
}

#[async_trait]
impl Factory for EmbeddedFactory {
    async fn open(&self) -> Arc<dyn Store> {
        let path = self.fresh_directory().join(FILE_NAME);
        let opener = move || Ok(redb::Database::create(&path)?);
        Arc::new(EmbeddedStore::open_with(opener, MAX_FEED_CHANGES).expect("the file is created"))
    }

    async fn beside(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// Opens a copy of the file as it is without a close: what another process finds after a crash.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let left_behind = self.last_directory().join(FILE_NAME);
        let directory = self.fresh_directory();
        std::fs::copy(left_behind, directory.join(FILE_NAME)).expect("the file is copied");
        drop(store);
        Arc::new(EmbeddedStore::open(&directory).expect("the file is opened"))
    }

    async fn position_too_old(&self, store: &dyn Store) -> Position {
        let mut busy = tenant("busy");
        let mut follower = follow(store, None).await;
        let note = busy.note(AuditAction::SignedIn);
        commit(store, note).await;
        let position = follower.next().await.position;
        for _ in 0..=MAX_FEED_CHANGES {
            let note = busy.note(AuditAction::SignedIn);
            commit(store, note).await;
        }
        position
    }
}
