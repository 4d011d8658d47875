//! The release before beside this one: `KEYMARK_PREVIOUS_RELEASE` is its binary (`make upgrade-test`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::fleet::Fleet;
use super::load::Load;
use super::nemesis::{becomes_true, ends_since};
use super::{check, seeded};
use crate::support::process::{PROGRAM, Server, directory, program};

/// Keys that are ended under each mixture of releases.
const ENDS: usize = 60;
/// Limit on the time that this takes.
const MAX_PHASE: Duration = Duration::from_secs(120);
/// The same for all: an instance of 0.1 bounds those of the instances beside it.
const LEASE_SECONDS: [u64; 3] = [2; 3];
const PASSWORD: &str = "a password for the operator of the store";

fn previous_release() -> PathBuf {
    std::env::var_os("KEYMARK_PREVIOUS_RELEASE").expect("KEYMARK_PREVIOUS_RELEASE: run make upgrade-test").into()
}

/// Waits until the load has ended more keys.
async fn wait_for_ends(fleet: &Fleet) {
    let since = fleet.history.now();
    assert!(becomes_true(MAX_PHASE, || ends_since(fleet, since) >= ENDS).await, "too few keys were ended");
}

/// Replaces the instances of a cluster of the release before in this order. Revocations go through each of them.
async fn upgrade(order: [usize; 3]) {
    let mut rng = seeded();
    let previous = previous_release();
    let fleet = Arc::new(Fleet::of_release(LEASE_SECONDS, &previous).await);
    let load = Load::start(&fleet, &mut rng).await;
    wait_for_ends(&fleet).await;
    for instance in order {
        fleet.upgrade_instance(instance).await;
        wait_for_ends(&fleet).await;
    }
    load.finish().await;
    check(&fleet).await;
    // This release has brought the database up to date.
    let (status, log) = fleet.try_release(&previous).await.expect("it is refused");
    assert!(!status.success() && log.contains("newer release of Keymark"), "{status}: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_enforce_each_others_revocations_while_a_cluster_is_upgraded() {
    upgrade([0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_that_has_signed_in_the_operator_may_be_upgraded_last() {
    upgrade([2, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_before_is_refused_beside_this_one_with_a_reason() {
    let fleet = Arc::new(Fleet::of_three(LEASE_SECONDS).await);
    let load = Load::start(&fleet, &mut seeded()).await;
    let (status, log) = fleet.try_release(&previous_release()).await.expect("it is refused");
    assert!(!status.success() && log.contains("newer release of Keymark"), "{status}: {log}");
    wait_for_ends(&fleet).await;
    load.finish().await;
    check(&fleet).await;
}

#[tokio::test]
async fn embedded_store_may_go_back_to_the_release_before_and_loses_nothing() {
    let directory = directory();
    let start = async |path: PathBuf| {
        let mut command = program(&path);
        command.env("KEYMARK_DATA_DIR", directory.path()).env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
        Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    };
    let before = start(previous_release()).await;
    let token = before.sign_in("admin", PASSWORD).await;
    let (kept, revoked) = (before.generate_key(&token, "kept").await, before.generate_key(&token, "revoked").await);
    let revoke = "mutation ($i: ID!) { revokeKey(systemId: $i) { enforcement { state } } }";
    before.graphql(Some(&token), revoke, json!({ "i": revoked.0 })).await;
    before.stop().await;

    let after = start(PROGRAM.into()).await;
    assert_eq!(after.verdict(&kept.1).await, "VALID");
    assert_eq!(after.verdict(&revoked.1).await, "REVOKED");
    let newer = after.generate_key(&token, "newer").await;
    after.stop().await;

    let before = start(previous_release()).await;
    assert_eq!(before.verdict(&newer.1).await, "VALID");
    let older = before.generate_key(&token, "older").await;
    before.graphql(Some(&token), revoke, json!({ "i": newer.0 })).await;
    before.stop().await;

    let after = start(PROGRAM.into()).await;
    for (key, verdict) in [(kept, "VALID"), (revoked, "REVOKED"), (newer, "REVOKED"), (older, "VALID")] {
        assert_eq!(after.verdict(&key.1).await, verdict);
    }
    // By the index, which the release before does not maintain.
    let generations = "{ auditLog(filter: { actions: [KEY_GENERATED] }) { totalCount } }";
    let counted = after.graphql(Some(&token), generations, json!({})).await;
    assert_eq!(counted["data"]["auditLog"]["totalCount"], 4, "{counted}");
    after.stop().await;
}
