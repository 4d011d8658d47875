//! Reads end on the server when their caller is gone.

use std::time::Duration;

use keymark::domain::audit::{AuditFilter, AuditOutcome};
use keymark::store::mongo::MongoOptions;
use keymark::store::{AuditStore, PageRequest};
use mongodb::bson::doc;

use super::{acme, connect};
use crate::contract::fixtures::commit;
use crate::support::mongod::Mongod;
use crate::support::within;

/// Has the server stop in each query of the audit log, until the query is interrupted.
async fn stop_queries(mongod: &Mongod, options: &MongoOptions) {
    let data = doc! { "nss": format!("{}.audit", options.database), "shouldCheckForInterrupt": true };
    mongod.admin(doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": data }).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn read_of_a_caller_who_is_gone_ends_on_the_server() {
    // Of its own, since failpoints concern a whole server.
    let mongod = &Mongod::replica_set().await;
    let mut options = mongod.fresh_database();
    // Longer than this test may take: a read does not end by itself.
    options.call_limit = Duration::from_secs(120);
    let store = connect(&options).await;
    let (acme, note) = acme();
    commit(&store, note).await;
    let filter = AuditFilter { outcome: Some(AuditOutcome::Done), ..AuditFilter::default() };

    stop_queries(mongod, &options).await;
    let page = PageRequest::first(10);
    tokio::select! {
        page = store.list_audit(&acme.id, &filter, &page) => panic!("{page:?}"),
        () = wait_until_running(mongod, &options, 1) => {}
    }
    wait_until_running(mongod, &options, 0).await;
}
