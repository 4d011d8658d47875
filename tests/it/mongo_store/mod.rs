//! What the MongoDB backend guarantees beyond the contract of every store.

mod concerns;
mod exactly_once;
mod following;
mod loss;
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

/// A database that is lost is said to be so within this time, and one that is back serves within it: the limit of a
/// call, and a margin for a busy machine.
const PROMPTLY: Duration = Duration::from_secs(20);
/// The same for a commit whose answer was lost: it is asked for again, and then looked for.
const EVENTUALLY: Duration = Duration::from_secs(45);

/// A limit of a call for those who have to wait until it is over.
const IMPATIENTLY: Duration = Duration::from_secs(2);

async fn connect(options: &MongoOptions) -> MongoStore {
    MongoStore::connect(options, Environment::system()).await.expect("the server takes connections")
}

/// A store of its own on the shared server, and how failures are aimed at it alone: by the name of its client.
async fn store_under(app_name: &str) -> (MongoStore, MongoOptions) {
    let mut options = fresh_database().await;
    options.uri = format!("{}&appName={app_name}", options.uri);
    options.call_limit = IMPATIENTLY;
    (connect(&options).await, options)
}

fn acme() -> (Tenant, Batch) {
    let mut acme = tenant("acme");
    let note = acme.note(AuditAction::SignedIn);
    (acme, note)
}

/// Whether the call found that the database is lost.
fn is_loss<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)))
}
