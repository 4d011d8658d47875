//! Commits whose commands or responses are lost, and crashes during commits: each takes effect at most once.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use keymark::domain::audit::{AuditAction, AuditHead};
use keymark::store::mongo::MongoOptions;
use keymark::store::{AuditStore, CommitStore, Store, StoreError, SystemStore};
use mongodb::bson::{Document, doc};
use tokio::sync::mpsc;

use super::{MAX_CALL_TIME, MAX_COMMIT_TIME, SHORT_CALL_LIMIT, acme, connect, store_named};
use crate::contract::fixtures::{commit, commit_concurrently, log, tenant};
use crate::support::mongod::{Mongod, shared, within};

/// Makes commands of the client with this name fail.
async fn enable_failpoint(app_name: &str, mode: Document, mut how: Document) {
    how.insert("appName", app_name);
    let mode = mode.get("mode").cloned().expect("a mode");
    shared().await.admin(doc! { "configureFailPoint": "failCommand", "mode": mode, "data": how }).await;
}

async fn disable_failpoint() {
    shared().await.admin(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await;
}

fn times(times: i32) -> Document {
    doc! { "mode": { "times": times } }
}

fn always() -> Document {
    doc! { "mode": "alwaysOn" }
}

/// Serializes the tests that use the failpoint, since the server has only one of this kind.
static FAILPOINT: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn disturbed_commit_takes_effect_once() {
    let _alone = FAILPOINT.lock().await;
    let app = "disturbed";
    let (store, _) = store_named(app).await;
    let store = &store;
    let (mut acme, note) = acme();
    commit(store, note).await;
    let transient = ["TransientTransactionError"];
    let unmet = doc! { "code": 91, "codeName": "ShutdownInProgress", "errmsg": "shutting down" };
    let disturbances = [
        ("the commit never arrives", doc! { "failCommands": ["commitTransaction"], "closeConnection": true }, 1),
        ("the commit never arrives twice", doc! { "failCommands": ["commitTransaction"], "closeConnection": true }, 2),
        (
            "the commit is not known to have a majority",
            doc! { "failCommands": ["commitTransaction"], "writeConcernError": unmet },
            1,
        ),
        (
            "the server has lost the transaction",
            doc! { "failCommands": ["commitTransaction"], "errorCode": 251, "errorLabels": transient },
            1,
        ),
        ("the primary steps down at the commit", doc! { "failCommands": ["commitTransaction"], "errorCode": 189 }, 1),
        (
            "another transaction wins",
            doc! { "failCommands": ["update"], "errorCode": 112, "errorLabels": transient },
            3,
        ),
        ("the connection breaks at a statement", doc! { "failCommands": ["insert"], "closeConnection": true }, 1),
        ("the connection breaks at the start", doc! { "failCommands": ["update"], "closeConnection": true }, 1),
    ];
    for (what, how, count) in disturbances {
        let system = acme.system(what);
        let batch = acme.create(&system);
        enable_failpoint(app, times(count), how).await;
        let entry = within(MAX_COMMIT_TIME, store.commit(batch.clone())).await;
        disable_failpoint().await;
        let entry = entry.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(entry.event, batch.event, "{what}");
        assert_eq!(store.find_system(&acme.id, system.id).await.unwrap(), Some(system), "{what}");
    }
    let entries = log(store, &acme.id).await;
    assert_eq!(entries.len(), 9);
    entries.iter().try_fold(AuditHead::default(), |head, entry| entry.check(&head).map(|()| entry.head())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_that_times_out_is_aborted_first() {
    let _alone = FAILPOINT.lock().await;
    let app = "late";
    let (store, _) = store_named(app).await;
    let (_, batch) = acme();
    // Longer than the limit of a call: without an abort, the server would commit after that.
    let late = doc! { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 2_500 };
    enable_failpoint(app, times(1), late).await;
    let answer = within(MAX_COMMIT_TIME, store.commit(batch.clone())).await;
    disable_failpoint().await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert_eq!(store.audit_head(&batch.tenant).await.unwrap().number, 0);
    let entry = within(MAX_CALL_TIME, commit(&store, batch)).await;
    assert_eq!(entry.number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_with_unknown_outcome_can_be_repeated() {
    let _alone = FAILPOINT.lock().await;
    let app = "unsettled";
    let (store, _) = store_named(app).await;
    let (mut acme, note) = acme();
    commit(&store, note).await;
    let unmet = doc! { "code": 91, "codeName": "ShutdownInProgress", "errmsg": "shutting down" };
    let losses = [
        ("it never arrives", doc! { "failCommands": ["commitTransaction"], "closeConnection": true }, false),
        (
            "it arrives but the response is lost",
            doc! { "failCommands": ["commitTransaction"], "writeConcernError": unmet },
            true,
        ),
    ];
    for (what, how, arrives) in losses {
        let batch = acme.note(AuditAction::SignedIn);
        enable_failpoint(app, always(), how).await;
        let answer = within(MAX_COMMIT_TIME, store.commit(batch.clone())).await;
        disable_failpoint().await;
        assert!(matches!(answer, Err(StoreError::OutcomeUnknown(_))), "{what}: {answer:?}");
        let found = store.find_audit_entry(&acme.id, batch.event.id).await.unwrap();
        assert_eq!(found.is_some(), arrives, "{what}");

        let entry = within(MAX_CALL_TIME, commit(&store, batch.clone())).await;
        assert_eq!(entry.event, batch.event);
        assert!(found.is_none_or(|found| found == entry), "{what}");
    }
    let numbers: Vec<_> = log(&store, &acme.id).await.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_during_commits_neither_lose_nor_repeat_them() {
    const CRASHES: usize = 4;
    const WRITERS: usize = 6;
    let mongod = Mongod::replica_set().await;
    let options = MongoOptions { call_limit: SHORT_CALL_LIMIT, ..mongod.fresh_database() };
    let stores = join_all((0..2).map(|_| connect(&options))).await;
    let stores: Vec<_> = stores.into_iter().map(std::sync::Arc::new).collect();

    let mut answers = HashMap::new();
    for crash in 0..CRASHES {
        let (committed, mut progress) = mpsc::unbounded_channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, committed) = (stores[writer % stores.len()].clone(), committed.clone());
                let mut own = tenant(&format!("writer-{crash}-{writer}"));
                // All write to one log.
                own.id = tenant("acme").id;
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    loop {
                        let batch = own.note(AuditAction::SignedIn);
                        let id = batch.event.id;
                        let answer = store.commit(batch).await;
                        let lost = answer.is_err();
                        answers.push((id, answer));
                        if lost {
                            return answers;
                        }
                        // The receiver may have been dropped.
                        let _ = committed.send(());
                    }
                })
            })
            .collect();
        // Enough commits for all writers to be running, and a different number each time.
        for _ in 0..20 + 7 * crash {
            progress.recv().await.expect("the writers run");
        }
        mongod.kill();
        for writer in writers {
            answers.extend(within(2 * MAX_COMMIT_TIME, writer).await.expect("the writer ends"));
        }
        mongod.restart().await;
    }

    let entries = log(&*stores[0], &tenant("acme").id).await;
    entries.iter().try_fold(AuditHead::default(), |head, entry| entry.check(&head).map(|()| entry.head())).unwrap();
    let mut logged: HashMap<_, _> = entries.into_iter().map(|entry| (entry.event.id, entry)).collect();
    for (id, answer) in answers {
        let found = logged.remove(&id);
        match answer {
            Ok(entry) => assert_eq!(found, Some(entry), "an acknowledged entry is in the log"),
            Err(StoreError::OutcomeUnknown(_)) => {}
            Err(StoreError::Unavailable(cause)) => assert_eq!(found, None, "{cause}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(logged.is_empty(), "entries that no writer committed: {logged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_on_three_instances_do_not_starve() {
    let options = shared().await.fresh_database();
    let mut instances: Vec<std::sync::Arc<dyn Store>> = Vec::new();
    for _ in 0..3 {
        instances.push(std::sync::Arc::new(connect(&options).await));
    }
    let mut acme = tenant("acme");
    let batches: Vec<_> = (0..150).map(|_| acme.note(AuditAction::SignedIn)).collect();
    let answers = within(Duration::from_secs(30), commit_concurrently(&instances, batches)).await;
    let mut numbers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=150).collect::<Vec<_>>());
}
