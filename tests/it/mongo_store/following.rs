//! The feed over a change stream: which events end it, and which do not.

use std::time::Duration;

use futures::StreamExt;
use keymark::domain::audit::AuditAction;
use keymark::domain::changes::Position;
use keymark::store::{Feed, FeedStore, StoreError};
use mongodb::bson::{Document, doc};

use super::{MAX_CALL_TIME, acme, connect};
use crate::contract::fixtures::{commit, follow};
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
        let refused = store.watch(Some(&Position::from_bytes(bytes.to_vec()))).await;
        assert!(matches!(refused, Err(StoreError::PositionTooOld)));
    }
}

#[tokio::test]
async fn idle_feed_stays_open() {
    let store = &connect(&fresh_database().await).await;
    let mut feed = store.watch(None).await.unwrap();
    // Longer than the server holds a request without events.
    let quiet = tokio::time::timeout(Duration::from_secs(3), feed.next()).await;
    assert!(quiet.is_err(), "no change is expected: {quiet:?}");
    let (_, note) = acme();
    let entry = commit(store, note).await;
    let change = within(MAX_CALL_TIME, feed.next()).await.expect("the feed continues").unwrap();
    assert_eq!(change.entry.as_deref(), Some(&entry));
}

#[tokio::test]
async fn foreign_change_ends_the_feed() {
    let options = fresh_database().await;
    let store = &connect(&options).await;
    let (mut acme, _) = acme();
    let system = acme.system("Billing");
    let create = acme.create(&system);
    commit(store, create).await;
    let database = shared().await.client().await.database(&options.database);
    let systems = database.collection::<Document>("systems");

    let feed = store.watch(None).await.unwrap();
    systems.update_one(doc! {}, doc! { "$set": { "name": "Patched" } }).await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::PositionTooOld));

    let feed = store.watch(None).await.unwrap();
    systems.drop().await.unwrap();
    assert!(matches!(end_of(feed).await, StoreError::Corrupt(_)));

    let feed = store.watch(None).await.unwrap();
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
    let feed = store.watch(None).await.unwrap();
    mongod.admin(mode("alwaysOn")).await;
    assert!(matches!(end_of(feed).await, StoreError::PositionTooOld));
    let resumed = store.watch(Some(&position)).await;
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
    let mut feed = store.watch(None).await.unwrap();
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
