//! Loss and return of the database.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use keymark::domain::audit::AuditAction;
use keymark::domain::keys::KeyDigest;
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::domain::system_names::Search;
use keymark::domain::systems::SystemOrder;
use keymark::domain::time::Timestamp;
use keymark::store::{
    AuditStore, CommitStore, FeedStore, KeyStore, LeaseStore, Quota, ScanStore, Store, SystemStore, ThrottleStore,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{MAX_CALL_TIME, MAX_COMMIT_TIME, acme, connect, is_loss};
use crate::contract::fixtures::{commit, follow, log, whole};
use crate::support::mongod::{Mongod, within};

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_while_the_database_is_frozen_and_recover() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, note) = acme();
    commit(store, note).await;
    let mut feed = store.watch(None, None).await.unwrap();

    mongod.freeze();
    let quota = Quota { burst: 1, interval: Duration::from_secs(1) };
    let (batch, tenant) = (acme.note(AuditAction::SignedIn), acme.id.clone());
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1));
    let lease = Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack: false, length: None };
    let queued: Vec<_> = (0..5).map(|_| acme.note(AuditAction::SignedOut)).collect();
    within(MAX_CALL_TIME, async {
        let (page, digests) = (whole(), [KeyDigest::from_bytes([7; 32])]);
        let (ping, count, list, key, token, opened, scanned, leases, put, followed, committed, queued) = tokio::join!(
            store.ping(),
            store.count_systems(&tenant, &Search::All),
            store.list_systems(&tenant, &Search::All, SystemOrder::default(), &page),
            store.find_key(&digests),
            store.take_token("door", quota, Timestamp::default()),
            store.watch(None, None),
            store.scan_rows(),
            store.list_leases(),
            store.put_lease(&lease),
            feed.next(),
            store.commit(batch.clone()),
            join_all(queued.into_iter().map(|batch| store.commit(batch))),
        );
        assert!(is_loss(&ping) && is_loss(&token), "{ping:?} {token:?}");
        assert!(is_loss(&count) && is_loss(&list) && is_loss(&key), "{count:?} {list:?} {key:?}");
        assert!(is_loss(&scanned.map(drop)) && is_loss(&leases) && is_loss(&put), "{leases:?} {put:?}");
        assert!(is_loss(&opened.map(drop)) && is_loss(&followed.expect("the feed reports its end")));
        assert!(is_loss(&committed), "{committed:?}");
        assert!(queued.iter().all(is_loss), "{queued:?}");
    })
    .await;

    mongod.thaw();
    within(MAX_CALL_TIME, async {
        store.ping().await.unwrap();
        // The interrupted transaction does not block others of its tenant.
        let entry = commit(store, batch).await;
        assert_eq!(entry.number, 2);
        follow(store, None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_while_the_database_is_down_and_recover() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, note) = acme();
    let first = commit(store, note).await;
    let mut follower = store.watch(None, None).await.unwrap();

    mongod.kill();
    let batch = acme.note(AuditAction::SignedIn);
    within(MAX_CALL_TIME, async {
        let (ping, committed, followed) = tokio::join!(store.ping(), store.commit(batch.clone()), follower.next());
        assert!(is_loss(&ping) && is_loss(&committed), "{committed:?}");
        assert!(is_loss(&followed.expect("the feed reports its end")));
    })
    .await;

    mongod.restart().await;
    within(MAX_CALL_TIME, async {
        let second = commit(store, batch).await;
        assert_eq!(log(store, &acme.id).await, [first, second]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_interrupted_by_a_freeze_can_be_repeated() {
    let mongod = Mongod::replica_set().await;
    let store = &connect(&mongod.fresh_database()).await;
    let (mut acme, note) = acme();
    commit(store, note).await;

    let batches: Vec<_> = (0..20).map(|_| acme.note(AuditAction::SignedIn)).collect();
    let mut committing = join_all(batches.iter().cloned().map(|batch| store.commit(batch)));
    // When the server stops, some batches are committed, one is in progress, and the rest are queued.
    let mut follower = follow(store, None).await;
    let answers = tokio::select! {
        answers = &mut committing => answers,
        () = async { drop(follower.take(3).await) } => {
            mongod.freeze();
            within(MAX_COMMIT_TIME, &mut committing).await
        }
    };
    assert!(answers.iter().any(Result::is_ok) && answers.iter().any(is_loss), "{answers:?}");

    mongod.thaw();
    within(MAX_COMMIT_TIME, async {
        for (batch, answer) in batches.into_iter().zip(answers) {
            let id = batch.event.id;
            let entry = match answer {
                Ok(entry) => entry,
                // Committing again has no effect if it was committed.
                Err(_) => commit(store, batch).await,
            };
            assert_eq!(store.find_audit_entry(&acme.id, id).await.unwrap(), Some(entry));
        }
        assert_eq!(log(store, &acme.id).await.len(), 21);
    })
    .await;
}
