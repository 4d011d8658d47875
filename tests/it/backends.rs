//! The contract suite on the model and on MongoDB.

use std::sync::Arc;

use async_trait::async_trait;
use keymark::clock::Environment;
use keymark::domain::changes::Position;
use keymark::store::Store;
use keymark::store::mongo::{MongoOptions, MongoStore};
use tokio::sync::OnceCell;

use crate::contract::memory::MemoryFactory;
use crate::contract::{Factory, contract_suite};
use crate::support::mongod;

contract_suite!(in_memory, MemoryFactory::default());
contract_suite!(on_mongodb, MongoFactory::default());

/// Opens instances of one database on the shared server.
#[derive(Default)]
pub struct MongoFactory(OnceCell<MongoOptions>);

impl MongoFactory {
    async fn connect(&self) -> Arc<dyn Store> {
        let options = self.0.get_or_init(mongod::fresh_database).await;
        Arc::new(
            MongoStore::connect(options, Environment::system()).await.expect("the shared server accepts connections"),
        )
    }
}

#[async_trait]
impl Factory for MongoFactory {
    async fn open(&self) -> Arc<dyn Store> {
        self.connect().await
    }

    async fn beside(&self) -> Option<Arc<dyn Store>> {
        Some(self.connect().await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.connect().await
    }

    async fn position_too_old(&self, _store: &dyn Store) -> Position {
        mongod::position_too_old().await
    }
}
