//! Guarantees of the MongoDB backend beyond the contract of every store.

mod audit_filters;
mod cancelled;
mod concerns;
mod exactly_once;
mod following;
mod loss;
mod pools;
mod scan;
mod start;

use std::time::Duration;

use keymark::clock::Environment;
use keymark::domain::audit::AuditAction;
use keymark::domain::changes::Batch;
use keymark::domain::keys::Key;
use keymark::domain::systems::System;
use keymark::store::StoreError;
use keymark::store::mongo::{MongoOptions, MongoStore};
use mongodb::Database;

use crate::contract::fixtures::{Tenant, commit, tenant};
use crate::support::mongod::{fresh_database, shared};

/// Time limit for calls to report the loss of the database, and to succeed once it is back: the limit of a call, and a
/// margin for a busy machine.
const MAX_CALL_TIME: Duration = Duration::from_secs(20);
/// The same for a commit whose response was lost: it is sent again, and then searched for in the log.
const MAX_COMMIT_TIME: Duration = Duration::from_secs(45);

/// A short limit of a call, for tests that wait for it to elapse.
const SHORT_CALL_LIMIT: Duration = Duration::from_secs(2);

async fn connect(options: &MongoOptions) -> MongoStore {
    MongoStore::connect(options, Environment::system()).await.expect("the server accepts connections")
}

/// Opens a store on the shared server under a client name, by which failpoints apply to it alone.
async fn store_named(app_name: &str) -> (MongoStore, MongoOptions) {
    let mut options = fresh_database().await;
    options.uri = format!("{}&appName={app_name}", options.uri);
    options.call_limit = SHORT_CALL_LIMIT;
    (connect(&options).await, options)
}

/// A store with one system and its key, in a database of its own on the shared server.
struct OneKey {
    store: MongoStore,
    acme: Tenant,
    system: System,
    key: Key,
    database: Database,
}

impl OneKey {
    async fn new() -> Self {
        let options = fresh_database().await;
        let store = connect(&options).await;
        let (mut acme, _) = acme();
        let system = acme.system("Billing");
        let create = acme.create(&system);
        commit(&store, create).await;
        let (system, key, generate) = acme.generate(&system);
        commit(&store, generate).await;
        let database = shared().await.client().await.database(&options.database);
        Self { store, acme, system, key, database }
    }
}

fn acme() -> (Tenant, Batch) {
    let mut acme = tenant("acme");
    let note = acme.note(AuditAction::SignedIn);
    (acme, note)
}

/// Whether the call reported the loss of the database.
fn is_loss<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)))
}
