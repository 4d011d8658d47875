//! The feed over a change stream: which events end it, and which do not.

use std::time::Duration;

use futures::StreamExt;
use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Position, Row, RowId, StoredRow, Write};
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::System;
use keymark::store::mongo::MongoStore;
use keymark::store::{CommitStore, Conflict, Feed, FeedStore, LeaseStore, StoreError, SystemStore};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{MAX_CALL_TIME, OneKey, acme, connect};
use crate::contract::fixtures::{Tenant, commit, follow};
use crate::support::mongod::{Mongod, fresh_database, shared, within};

async fn end_of(mut feed: Feed) -> StoreError {
    let error = within(MAX_CALL_TIME, feed.next()).await.expect("the feed reports why it ends").expect_err("an error");
    assert!(within(MAX_CALL_TIME, feed.next()).await.is_none(), "an error ends the feed");
    error
}

#[tokio::test]
async fn malformed_position_is_too_old() {
    let store = connect(&fresh_database().await).await;
    for bytes in [&b""[..], b"nonsense", &[5, 0, 0, 0, 0]] {
        let refused = store.watch(Some(&Position::from_bytes(bytes.to_vec())), None).await;
        assert!(matches!(refused, Err(StoreError::PositionTooOld)));
    }
}

#[tokio::test]
async fn idle_feed_stays_open() {
    let store = &connect(&fresh_database().await).await;
    let mut feed = store.watch(None, None).await.unwrap();
    // Longer than the server holds a request without events.
    let quiet = tokio::time::timeout(Duration::from_secs(3), feed.next()).await;
    assert!(quiet.is_err(), "no change is expected: {quiet:?}");
    let (_, note) = acme();
    let entry = commit(store, note).await;
    let change = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
    assert_eq!(change.entry.as_deref(), Some(&entry));
}

/// Returns a store with one system and one key, their change feed, and their database.
async fn with_one_key() -> (MongoStore, Tenant, System, Feed, Database) {
    let OneKey { store, acme, system, database, .. } = OneKey::new().await;
    let feed = store.watch(None, None).await.unwrap();
    (store, acme, system, feed, database)
}

async fn foreign(feed: &mut Feed) -> Vec<StoredRow> {
    let change = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
    assert!(change.writes.is_empty() && change.entry.is_none(), "{change:?}");
    change.foreign
}

#[tokio::test]
async fn row_that_another_client_wrote_is_reported_as_it_is_now() {
    let (_, _, system, mut feed, database) = with_one_key().await;
    let systems = database.collection::<Document>("systems");
    systems.update_one(doc! {}, doc! { "$set": { "name": "Patched" } }).await.unwrap();
    let renamed = System { name: SystemName::parse("Patched").unwrap(), ..system };
    assert_eq!(foreign(&mut feed).await, [StoredRow::Readable(Row::System(renamed.clone()))]);

    let document = systems.find_one(doc! {}).await.unwrap().expect("it exists");
    systems.update_one(doc! {}, doc! { "$set": { "other": 1 } }).await.unwrap();
    systems.replace_one(doc! {}, document).await.unwrap();
    for _ in 0..2 {
        assert_eq!(foreign(&mut feed).await, [StoredRow::Readable(Row::System(renamed.clone()))]);
    }

    systems.update_one(doc! {}, doc! { "$set": { "key": {} } }).await.unwrap();
    assert_eq!(foreign(&mut feed).await, [StoredRow::Unreadable(RowId::System(renamed.id))]);
}

#[tokio::test]
async fn transaction_of_another_client_is_reported_before_what_follows() {
    let (store, mut acme, system, mut feed, database) = with_one_key().await;
    let mut session = database.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let systems = database.collection::<Document>("systems");
    for name in ["First", "Second"] {
        let renamed = doc! { "$set": { "name": name } };
        systems.update_one(doc! {}, renamed).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&store, note).await;

    let renamed = System { name: SystemName::parse("Second").unwrap(), ..system };
    let rows = foreign(&mut feed).await;
    assert_eq!(rows.last(), Some(&StoredRow::Readable(Row::System(renamed))));
    let next = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
    assert_eq!((next.entry.as_deref(), next.foreign), (Some(&entry), vec![]));
}

#[tokio::test]
async fn foreign_writes_to_leases_and_the_log_are_left_out() {
    let (store, mut acme, _, mut feed, database) = with_one_key().await;
    let audit = database.collection::<Document>("audit");
    audit.update_many(doc! {}, doc! { "$set": { "hash": "0".repeat(64) } }).await.unwrap();
    let leases = database.collection::<Document>("leases");
    leases.insert_one(doc! { "_id": "x", "sequence": 1_i64, "applied": 1_i64, "asks": false }).await.unwrap();
    leases.update_one(doc! {}, doc! { "$set": { "applied": 2_i64 } }).await.unwrap();
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&store, note).await;
    loop {
        let change = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
        assert!(change.writes.is_empty() && change.foreign.is_empty(), "{change:?}");
        if change.entry.as_deref() == Some(&entry) {
            break;
        }
    }
    assert_eq!(store.list_leases().await.unwrap(), []);
}

#[tokio::test]
async fn feed_of_an_instance_leaves_out_the_leases_of_others() {
    let options = fresh_database().await;
    let store = connect(&options).await;
    let lease = |number, requests_ack, length| {
        let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(number));
        Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack, length }
    };
    let length = Some(Duration::from_secs(12));
    let (own, other) = (lease(1, false, length), lease(2, false, length));
    let (requesting, of_release_0_1) = (lease(3, true, length), lease(4, false, None));
    let mut feed = store.watch(None, Some(&[own.incarnation])).await.unwrap();
    for lease in [other, own, requesting, of_release_0_1] {
        store.put_lease(&lease).await.unwrap();
    }
    for lease in [other, of_release_0_1] {
        store.delete_lease(&lease).await.unwrap();
    }
    let (_, note) = acme();
    commit(&store, note).await;
    let mut delivered = Vec::new();
    loop {
        let change = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
        if change.entry.is_some() {
            break;
        }
        delivered.extend(change.writes);
    }
    assert_eq!(delivered, [own, requesting, of_release_0_1].map(|lease| Write::Put(Row::Lease(lease))));

    let leases = shared().await.client().await.database(&options.database).collection::<Document>("leases");
    leases
        .insert_one(doc! { "_id": "x", "sequence": 1_i64, "applied": 1_i64, "asks": false, "format": 3_i64 })
        .await
        .unwrap();
    assert!(matches!(end_of(feed).await, StoreError::NewerFormat { found: 3, .. }));
    let feed = store.watch(None, Some(&[own.incarnation])).await.unwrap();
    leases.drop().await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::Corrupt(_)));
}

#[tokio::test]
async fn row_in_a_newer_format_ends_the_feed() {
    let (_, _, _, feed, database) = with_one_key().await;
    let newer = doc! { "$set": { "format": 3 } };
    database.collection::<Document>("keys").update_one(doc! {}, newer).await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::NewerFormat { found: 3, known: 2 }));
}

#[tokio::test]
async fn row_in_a_newer_format_is_not_replaced() {
    let (store, mut acme, system, _, database) = with_one_key().await;
    let systems = database.collection::<Document>("systems");
    systems.update_one(doc! {}, doc! { "$set": { "format": 3, "new": true } }).await.unwrap();
    let stored = systems.find_one(doc! {}).await.unwrap();
    let (_, rename) = acme.rename(&system, "Renamed");
    let refused = store.commit(rename).await;
    assert!(matches!(refused, Err(StoreError::Conflict(Conflict::Row))), "{refused:?}");
    assert_eq!(systems.find_one(doc! {}).await.unwrap(), stored);
    let read = store.find_system(&acme.id, system.id).await;
    assert!(matches!(read, Err(StoreError::NewerFormat { .. })), "{read:?}");
}

#[tokio::test]
async fn dropped_collection_or_database_ends_the_feed() {
    let (store, _, _, feed, database) = with_one_key().await;
    database.collection::<Document>("systems").drop().await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::Corrupt(_)));

    let feed = store.watch(None, None).await.unwrap();
    database.drop().await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::Corrupt(_)));
}

#[tokio::test]
async fn feed_with_lost_history_ends_as_too_old() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, note) = acme();
    let mut follower = follow(store, None).await;
    commit(store, note).await;
    let position = follower.next().await.position;

    let lost = doc! { "failCommands": ["getMore", "aggregate"], "errorCode": 286 };
    let mode = |mode: &str| doc! { "configureFailPoint": "failCommand", "mode": mode, "data": lost.clone() };
    let feed = store.watch(None, None).await.unwrap();
    mongod.admin(mode("alwaysOn")).await;
    assert!(matches!(end_of(feed).await, StoreError::PositionTooOld));
    let resumed = store.watch(Some(&position), None).await;
    assert!(matches!(resumed, Err(StoreError::PositionTooOld)));

    mongod.admin(mode("off")).await;
    let mut follower = follow(store, Some(&position)).await;
    let note = acme.note(AuditAction::SignedOut);
    let entry = commit(store, note).await;
    assert_eq!(follower.next_entry().await, entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn position_survives_a_crash_of_the_database() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, note) = acme();
    let mut follower = follow(store, None).await;
    commit(store, note).await;
    let position = follower.next().await.position;
    let missed = acme.note(AuditAction::SignedOut);
    let missed = commit(store, missed).await;

    mongod.kill();
    mongod.restart().await;
    let mut follower = follow(store, Some(&position)).await;
    assert_eq!(follower.next_entry().await, missed);
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_that_breaks_while_resuming_skips_no_change_silently() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, first) = acme();
    let mut feed = store.watch(None, None).await.unwrap();
    commit(store, first).await;
    // Changes committed while the second attempt is blocked precede the point at which a third would start by default.
    let broken = doc! {
        "failCommands": ["getMore", "aggregate"], "closeConnection": true, "blockConnection": true, "blockTimeMS": 300,
    };
    let order = doc! { "configureFailPoint": "failCommand", "mode": { "times": 2 }, "data": broken };
    mongod.admin(order).await;
    let received = async {
        let mut numbers = Vec::new();
        while let Some(Ok(change)) = within(MAX_CALL_TIME, feed.next()).await {
            numbers.push(change.entry.expect("a batch").number);
            if numbers.len() == 300 {
                break;
            }
        }
        numbers
    };
    let committing = async {
        loop {
            let note = acme.note(AuditAction::SignedIn);
            commit(store, note).await;
        }
    };
    let numbers =
        tokio::select! { numbers = received => numbers, () = committing => unreachable!("the loop is endless") };
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}
