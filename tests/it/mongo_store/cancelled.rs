//! Reads end on the server when their caller is gone.

use std::time::Duration;

use keymark::domain::audit::{AuditAction, AuditFilter, AuditOutcome};
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{AuditStore, PageRequest};
use mongodb::bson::doc;

use super::connect;
use crate::contract::fixtures::{Tenant, commit, tenant};
use crate::support::mongod::Mongod;
use crate::support::within;

/// Has the server stop in each query of the audit log, until the query is interrupted.
async fn stop_queries(mongod: &Mongod, options: &MongoOptions) {
    let data = doc! { "nss": format!("{}.audit", options.database), "shouldCheckForInterrupt": true };
    mongod.admin(doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": data }).await;
}

/// Has the server wait 200 ms after each entry of the audit log that it reads.
async fn slow_reads(mongod: &Mongod, options: &MongoOptions) {
    mongod.admin(doc! { "setParameter": 1, "internalQueryExecYieldIterations": 1 }).await;
    let data = doc! { "namespace": format!("{}.audit", options.database), "waitForMillis": 200 };
    mongod.admin(doc! { "configureFailPoint": "setYieldAllLocksWait", "mode": "alwaysOn", "data": data }).await;
}

/// The number of reads of the audit log that the server runs.
async fn running(mongod: &Mongod, options: &MongoOptions) -> usize {
    let filter = doc! { "ns": format!("{}.audit", options.database), "active": true };
    let command = doc! { "aggregate": 1, "pipeline": [{ "$currentOp": {} }, { "$match": filter }], "cursor": {} };
    let found = mongod.admin(command).await;
    found.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a batch").len()
}

async fn wait_until_running(mongod: &Mongod, options: &MongoOptions, count: usize) {
    within(async { while running(mongod, options).await != count {} }).await;
}

/// A store that does not end a read by itself while a test runs, and a tenant with this many entries in its log.
async fn store_with_entries(mongod: &Mongod, count: usize) -> (MongoStore, MongoOptions, Tenant) {
    let mut options = mongod.fresh_database();
    options.call_limit = Duration::from_secs(120);
    let store = connect(&options).await;
    let mut tenant = tenant("acme");
    for _ in 0..count {
        commit(&store, tenant.note(AuditAction::SignedIn)).await;
    }
    (store, options, tenant)
}

fn filter() -> AuditFilter {
    AuditFilter { outcome: Some(AuditOutcome::Done), ..AuditFilter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_for_a_caller_who_is_gone_ends_on_the_server() {
    // Of its own, since failpoints concern a whole server.
    let mongod = &Mongod::replica_set().await;
    let (store, options, tenant) = store_with_entries(mongod, 1).await;
    stop_queries(mongod, &options).await;
    let (filter, page) = (filter(), PageRequest::first(10));
    tokio::select! {
        page = store.list_audit(&tenant.id, &filter, &page) => panic!("{page:?}"),
        () = wait_until_running(mongod, &options, 1) => {}
    }
    wait_until_running(mongod, &options, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn count_for_a_caller_who_is_gone_ends_on_the_server() {
    let mongod = &Mongod::replica_set().await;
    // The server counts five entries a second: by itself, the count ends after the time limit of `within`.
    let (store, options, tenant) = store_with_entries(mongod, 300).await;
    slow_reads(mongod, &options).await;
    let filter = filter();
    tokio::select! {
        count = store.count_audit(&tenant.id, &filter) => panic!("{count:?}"),
        () = wait_until_running(mongod, &options, 1) => {}
    }
    wait_until_running(mongod, &options, 0).await;
}
