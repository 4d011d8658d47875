//! Guarantees of the MongoDB backend beyond the contract of every store.

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
use keymark::store::StoreError;
use keymark::store::mongo::{MongoOptions, MongoStore};

use crate::contract::fixtures::{Tenant, tenant};
use crate::support::mongod::fresh_database;

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

fn acme() -> (Tenant, Batch) {
    let mut acme = tenant("acme");
    let note = acme.note(AuditAction::SignedIn);
    (acme, note)
}

/// Whether the call reported the loss of the database.
fn is_loss<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)))
}
