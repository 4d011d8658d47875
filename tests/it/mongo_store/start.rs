//! Connecting: refusals with their messages, and the preparation of the database.

use futures::future::join_all;
use keymark::clock::Environment;
use keymark::store::Store;
use keymark::store::mongo::{ConnectError, MongoOptions, MongoStore};
use mongodb::bson::{Document, doc};

use super::{MAX_CALL_TIME, connect};
use crate::contract::fixtures::{commit, log, tenant};
use crate::support::mongod::{Mongod, fresh_database, shared, within};
use keymark::domain::audit::AuditAction;

/// Returns the message of the refusal, which must be one line.
async fn refusal(options: &MongoOptions) -> String {
    let error = within(2 * MAX_CALL_TIME, MongoStore::connect(options, Environment::system()))
        .await
        .expect_err("the server is refused");
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[tokio::test]
async fn standalone_server_is_refused() {
    let mongod = Mongod::standalone().await;
    let mut options = mongod.fresh_database();
    insta::assert_snapshot!(
        refusal(&options).await,
        @"This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run rs.initiate() once."
    );
    // The driver reports the same as for a server that is down.
    options.uri = format!("mongodb://{}/?replicaSet=rs0", mongod.address());
    insta::assert_snapshot!(
        refusal(&options).await,
        @"This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run rs.initiate() once."
    );
}

#[tokio::test]
async fn replica_set_of_another_name_is_refused() {
    let mongod = shared().await;
    let options = MongoOptions::new(format!("mongodb://{}/?replicaSet=other", mongod.address()), "keymark");
    insta::assert_snapshot!(
        refusal(&options).await,
        @"The replica set of this MongoDB is named rs0, and the URI says replicaSet=other: change the URI."
    );
}

#[tokio::test]
async fn uninitiated_replica_set_is_refused() {
    let mongod = Mongod::not_initiated().await;
    insta::assert_snapshot!(
        refusal(&mongod.fresh_database()).await,
        @"The replica set of this MongoDB is not initiated yet: run rs.initiate() once."
    );
}

#[tokio::test]
async fn unreachable_server_is_refused() {
    // A privileged port on which no server listens.
    let refusal = refusal(&MongoOptions::new("mongodb://127.0.0.1:1/", "keymark")).await;
    assert!(refusal.starts_with("MongoDB does not answer: check that the hosts of the URI run"), "{refusal}");
}

#[tokio::test]
async fn malformed_uri_is_not_repeated_in_the_message() {
    for uri in ["mongodb://ada:hunter2@", "postgres://ada:hunter2@h/", "mongodb://ada:hunter2/x@h:99999/", "hunter2"] {
        let refusal = refusal(&MongoOptions::new(uri, "keymark")).await;
        assert!(refusal.starts_with("The MongoDB URI cannot be read:") && !refusal.contains("hunter2"), "{refusal}");
    }
}

#[tokio::test]
async fn invalid_database_name_is_refused() {
    for name in ["", "a.b", "$cmd", "admin", "with space", &"x".repeat(64)] {
        let refused = MongoStore::connect(&MongoOptions::new(shared().await.uri(), name), Environment::system()).await;
        assert!(matches!(refused, Err(ConnectError::DatabaseName(_))), "{name}");
    }
}

#[tokio::test]
async fn instances_prepare_one_database_concurrently() {
    let options = fresh_database().await;
    let stores = join_all((0..8).map(|_| connect(&options))).await;

    let mut acme = tenant("acme");
    for store in &stores {
        let note = acme.note(AuditAction::SignedIn);
        commit(store, note).await;
    }
    assert_eq!(log(&stores[0], &acme.id).await.len(), stores.len());
    let database = shared().await.client().await.database(&options.database);
    let mut indexes = Vec::new();
    let mut collections = database.list_collection_names().await.unwrap();
    collections.sort_unstable();
    for collection in collections {
        let names = database.collection::<Document>(&collection).list_index_names().await.unwrap();
        indexes.push(format!("{collection}: {}", names.join(" ")));
    }
    insta::assert_snapshot!(indexes.join("\n"), @"
    audit: _id_ tenant_number tenant_number_occurredAt tenant_occurredAt_number tenant_system_number tenant_actor_number tenant_action_number tenant_outcome_number tenant_keyMark_number tenant_previousKeyMark_number
    buckets: _id_ arrival
    keys: _id_ revokedAt dueAt
    leases: _id_
    meta: _id_
    operators: _id_ username tenant_username
    sessions: _id_ operator expiresAt
    systems: _id_ tenant_folded tenant_externalId tenant_updatedAt_id tenant_createdAt_id
    tenantRows: _id_
    tenants: _id_
    tokens: _id_ tenant_isService_folded digests
    usage: _id_ tenant_writtenAt
    usageDays: _id_ row
    usageFlushes: _id_
    usageHours: _id_ row
    ");
}

#[tokio::test]
async fn interrupted_preparation_is_completed_by_the_next_start() {
    let options = fresh_database().await;
    connect(&options).await;
    let database = shared().await.client().await.database(&options.database);
    let systems = database.collection::<Document>("systems");
    systems.drop_index("tenant_folded").await.unwrap();
    database.collection::<Document>("sessions").drop().await.unwrap();
    database.collection::<Document>("meta").delete_one(doc! { "_id": "version" }).await.unwrap();

    connect(&options).await;
    assert!(systems.list_index_names().await.unwrap().contains(&"tenant_folded".to_owned()));
    assert!(database.list_collection_names().await.unwrap().contains(&"sessions".to_owned()));
}

#[tokio::test]
async fn database_of_a_newer_release_is_refused() {
    let options = fresh_database().await;
    connect(&options).await;
    let database = shared().await.client().await.database(&options.database);
    let meta = database.collection::<Document>("meta");
    meta.update_one(doc! { "_id": "version" }, doc! { "$set": { "number": 999_i64 } }).await.unwrap();
    insta::assert_snapshot!(
        refusal(&options).await,
        @"A newer release of Keymark has used this database (its version is 999, this release knows 6): start that release or a later one."
    );
}

#[tokio::test]
async fn validators_refuse_foreign_documents() {
    let options = fresh_database().await;
    let store = connect(&options).await;
    let database = shared().await.client().await.database(&options.database);
    for collection in [
        "systems",
        "keys",
        "operators",
        "sessions",
        "audit",
        "tenants",
        "leases",
        "buckets",
        "usage",
        "usageDays",
        "usageFlushes",
        "usageHours",
    ] {
        let stranger = database.collection::<Document>(collection).insert_one(doc! { "name": 1 }).await;
        assert!(stranger.is_err(), "{collection}");
    }
    store.ping().await.unwrap();
}
