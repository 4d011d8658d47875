//! Enforcement across instances: once a change is reported as enforced, every instance acts on it, even without the
//! database.
//!
//! One test for each part of this guarantee. `cluster` searches for violations under random faults.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use keymark::admin::Command;
use keymark::admin::tenants::TenantCommand;
use keymark::admin::tokens::{TokenCommand, TokenLife};
use keymark::clock::Environment;
use keymark::coherence::protocol::Timing;
use keymark::domain::audit::AuditAction;
use keymark::domain::ids::SystemId;
use keymark::domain::keys::ApiKey;
use keymark::domain::leases::{Incarnation, LENGTH_SETTING, Lease, LogTime};
use keymark::service::Settings;
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{LeaseStore, SettingsStore};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::contract::fixtures::follow;
use crate::support::actors::{
    ALL, Answer, App, Generated, Operator, PASSWORD, PLATFORM, SECRET, START, Setup, SkippingStopwatch, permissions,
};
use crate::support::faulty::Switch;
use crate::support::process::{Server, keymark, run};
use crate::support::sockets::{Event, Subscription};
use crate::support::{mongod, on_both_stores, within};
use crate::tokens::created;

const GENERATE: &str = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
const CHANGES: &str = "subscription ($after: String) { systemChanged(after: $after) { system { name } } }";

/// Longer than any test, so that a change can only be enforced through acknowledgements.
const LONG: Timing = timing(300);
/// With probes only when they are requested.
const RARELY: Timing = Timing { lease: Duration::from_secs(300), probe_interval: Duration::from_secs(75) };
const SHORT: Timing = timing(1);
const NONE: Timing = timing(0);

const fn timing(seconds: u64) -> Timing {
    Timing { lease: Duration::from_secs(seconds), probe_interval: Duration::from_millis(200) }
}

fn with(timing: Timing) -> Setup {
    Setup { timing, ..Setup::default() }
}

fn with_switch(switch: &Switch, timing: Timing) -> Setup {
    Setup { switch: Some(switch.clone()), ..with(timing) }
}

async fn key(operator: &Operator<'_>, name: &str) -> Generated {
    operator.generate_key(&operator.create_system(name).await.id).await
}

/// Puts the lease of an instance into the store that never acknowledges a change.
async fn silent_instance(app: &App, timing: Timing) -> Lease {
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1000));
    let length = Some(timing.lease);
    let lease = Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack: false, length };
    app.store.put_lease(&lease).await.expect("put");
    lease
}

fn state(response: &Answer, mutation: &str) -> Json {
    response.data(&format!("{mutation}.enforcement.state")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_change_is_enforced_on_three_instances_when_its_response_is_sent() {
    let first = App::mongodb().await;
    let fleet = [first.instance(2).await, first.instance(3).await, first];
    for app in &fleet {
        app.wait_for_cache().await;
    }
    let operator = fleet[0].operator(&ALL).await;
    for i in 0..21 {
        let [one, another, third] = [0, 1, 2].map(|n| operator.at(&fleet[(i + n) % 3]));
        let system = one.create_system(&format!("System {i}")).await;
        let generated = another.try_generate_key(&system.id).await;
        let key = generated.data("generateKey.apiKey").as_str().expect("a key");
        for app in &fleet {
            assert_eq!(app.verifier().code(key).await, "VALID");
        }
        let (ended, mutation) = match i % 4 {
            3 => (third.try_delete_system(&system.id).await, "deleteSystem"),
            _ => (third.try_revoke_key(&system.id).await, "revokeKey"),
        };
        for app in &fleet {
            assert_eq!(app.verifier().code(key).await, "REVOKED", "{mutation}");
        }
        for (response, mutation) in [(generated, "generateKey"), (ended, mutation)] {
            let enforcement = response.data(&format!("{mutation}.enforcement"));
            assert_eq!((&enforcement["state"], &enforcement["instances"]), (&json!("ENFORCED"), &json!(3)));
        }
    }
}

/// Verifies a key of the suspended tenant and one of another in turn, until `stop`. `phase` is even while no change is in
/// progress: 0, 4, … while the tenant is active, and 2, 6, … while it is suspended.
async fn verify_while_tenants_change(
    fleet: Arc<Vec<App>>,
    at: usize,
    [suspended, other]: [String; 2],
    phase: Arc<AtomicU64>,
    verified: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::SeqCst) {
        let before = phase.load(Ordering::SeqCst);
        let verdict = fleet[at].verifier().code(&suspended).await;
        let after = phase.load(Ordering::SeqCst);
        assert_eq!(fleet[at].verifier().code(&other).await, "VALID", "of another tenant, on instance {at}");
        if before == after && before.is_multiple_of(2) {
            // An address that presents refused keys all the time is limited after 20,000.
            let expected: &[&str] = if before.is_multiple_of(4) { &["VALID"] } else { &["SUSPENDED", "RATE_LIMITED"] };
            assert!(expected.contains(&verdict.as_str()), "{verdict} of instance {at} in phase {before}");
            verified.send_modify(|verified| *verified += 1);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_tenant_is_refused_under_load_and_no_other_one() {
    let first = App::mongodb().await;
    let fleet = Arc::new(vec![first.instance(2).await, first.instance(3).await, first]);
    for app in &*fleet {
        app.wait_for_cache().await;
    }
    let platform = fleet[0].platform_operator("default", &PLATFORM).await;
    assert_eq!(platform.change_tenant("createTenant", "acme", "name: \"Acme\"").await.code(), None);
    let keys = [key(&platform.acting_in("acme"), "Billing").await.api_key, key(&platform, "Billing").await.api_key];
    let (phase, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut counts = Vec::new();
    let mut load = JoinSet::new();
    for at in 0..fleet.len() {
        let (verified, count) = watch::channel(0);
        counts.push(count);
        let (fleet, keys, phase) = (Arc::clone(&fleet), keys.clone(), Arc::clone(&phase));
        load.spawn(verify_while_tenants_change(fleet, at, keys, phase, verified, Arc::clone(&stop)));
    }
    for round in 0..20 {
        let operator = platform.at(&fleet[round % fleet.len()]);
        for suspends in [true, false] {
            phase.fetch_add(1, Ordering::SeqCst);
            if suspends {
                operator.suspend_tenant("acme").await;
            } else {
                operator.resume_tenant("acme").await;
            }
            phase.fetch_add(1, Ordering::SeqCst);
            for count in &mut counts {
                let enough = *count.borrow() + 5;
                within(count.wait_for(|verified| *verified >= enough)).await.expect("the load goes on");
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.expect("no verdict was wrong");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_verified_and_callers_authenticated_without_the_store() {
    for first in [App::mongodb_with(with(LONG)).await, App::embedded_with(with(LONG)).await] {
        let switch = Switch::default();
        let app = first.instance_with(2, with_switch(&switch, LONG)).await;
        for instance in [&first, &app] {
            instance.wait_for_cache().await;
        }
        let operator = first.operator(&ALL).await;
        let (good, revoked) = (key(&operator, "Good").await.api_key, key(&operator, "Revoked").await);
        operator.revoke_key(&revoked.system.id).await;
        let unknown = ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(99));
        let operator = operator.at(&app);
        app.wait_until(async || app.coherence.read(|cache| cache.identities.sessions()) == Some(1)).await;

        let reads = || switch.calls(&["find_key", "find_session", "find_operator"]);
        let before = reads();
        operator.create_system("Another").await;
        switch.fail();
        for _ in 0..3 {
            for (key, verdict, status) in [
                (good.as_str(), "VALID", StatusCode::OK),
                (revoked.api_key.as_str(), "REVOKED", StatusCode::UNAUTHORIZED),
                (unknown.expose(), "NOT_FOUND", StatusCode::UNAUTHORIZED),
            ] {
                assert_eq!(app.verifier().code(key).await, verdict);
                assert_eq!(app.verifier().forward_auth(&[("x-api-key", key)]).await.status, status);
            }
            assert!(operator.is_signed_in().await);
        }
        assert_eq!(reads(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_accepted_after_the_lease_expired_while_the_store_fails() {
    let switch = Switch::default();
    let stopwatch = SkippingStopwatch::default();
    let setup = Setup { stopwatch: Arc::new(stopwatch.clone()), ..with_switch(&switch, LONG) };
    let app = App::mongodb_with(setup).await;
    let good = key(&app.operator(&ALL).await, "Billing").await.api_key;
    app.wait_for_cache().await;
    switch.fail();
    assert_eq!(app.verifier().code(&good).await, "VALID");
    stopwatch.skip(LONG.lease);
    for _ in 0..200 {
        let response = app.verifier().verify(&good).await;
        assert_eq!((response.status, &response.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE")));
    }
    switch.work();
    assert_eq!(app.verifier().code(&good).await, "VALID");
    app.wait_for_cache().await;
    assert_eq!(app.verifier().code(&good).await, "VALID");
}

/// Receives the events of a subscription until it ends. Panics if one of them is a result.
async fn end_without_results(mut live: Subscription) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = live.event().await;
        assert!(!matches!(event, Event::Next(_)), "{event:?}");
        let is_last = matches!(event, Event::Closed(_)) || event == Event::Error("FORBIDDEN".to_owned());
        events.push(event);
        if is_last {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_locked_out_on_one_instance_is_refused_and_receives_nothing_more_on_the_others() {
    let app = App::mongodb_with(with(LONG)).await;
    let other = app.instance_with(2, with(LONG)).await;
    for instance in [&app, &other] {
        instance.wait_for_cache().await;
    }
    let author = app.operator(&ALL).await;
    let address = other.listen().await;
    for way in ["sign-out", "own password", "set password", "removal", "codes"] {
        let operator = app.operator(&ALL).await;
        let there = operator.at(&other);
        let after = json!({ "after": operator.newest_cursor().await });
        let mut live = there.subscribe_at(address, CHANGES, after).await;
        let before = author.create_system(&format!("Before {way}")).await;
        assert_eq!(live.next().await["system"]["name"], before.name.as_str());
        match way {
            "sign-out" => assert_eq!(operator.sign_out().await.data("signOut.signedOut"), true),
            "own password" => {
                operator.change_password(PASSWORD, "another password").await.data("changePassword.token");
            }
            "set password" => {
                let (username, password) = (operator.username.parse().unwrap(), Some("another password".to_owned()));
                app.command(Command::SetPassword { username, password }).await.unwrap();
            }
            "removal" => operator.be_removed().await,
            _ => operator.may(&["create"]).await,
        }
        let refused = there.query("{ systems { nodes { id } } }", json!({})).await;
        for (i, author) in [author.at(&other), author.at(&app)].iter().enumerate() {
            author.create_system(&format!("After {way} {i}")).await;
        }
        let (code, end) = match way {
            "codes" => ("FORBIDDEN", Event::Error("FORBIDDEN".to_owned())),
            _ => ("UNAUTHENTICATED", Event::Closed(4403)),
        };
        assert_eq!(refused.code(), Some(code), "{way}");
        assert_eq!(end_without_results(live).await.last(), Some(&end), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_fail_while_their_change_is_not_enforced() {
    let settings = Settings { enforcement_wait: Duration::from_millis(100), ..Setup::default().settings };
    let app = App::mongodb_with(Setup { settings, ..with(LONG) }).await;
    app.wait_for_cache().await;
    app.operator(&ALL).await;
    let id = || "acme".parse().expect("a tenant");
    for name in ["At once", "With an overlap"] {
        created(&app, "acme", name, Some(permissions(&ALL)), false).await;
    }
    silent_instance(&app, LONG).await;
    for (name, overlap_seconds, fails) in [("At once", 0, true), ("With an overlap", 60, false)] {
        let command = TokenCommand::Rotate { token: name.to_owned(), overlap_seconds, life: TokenLife::Never };
        let (outcome, said) = app.command_and_output(Command::Token { tenant: id(), command }).await;
        assert_eq!(outcome.is_err(), fails, "{outcome:?}");
        assert!(said.contains("\nToken: kmt_") && said.contains("may not accept it yet"), "{said}");
    }
    for command in [
        TenantCommand::Suspend { id: id(), reason: None },
        TenantCommand::Resume { id: id() },
        TenantCommand::Rename { id: id(), name: "Acme".to_owned() },
    ] {
        let message = app.command(Command::Tenant(command)).await.expect_err("not enforced");
        assert!(message.starts_with("The change was made, but an instance may use the old state"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeat_is_reported_as_such_only_after_the_first_change_is_enforced() {
    let settings = Settings { enforcement_wait: Duration::from_millis(100), ..Setup::default().settings };
    let app = App::mongodb_with(Setup { settings, ..with(LONG) }).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let (revoked, deleted) = (key(&operator, "Revoked").await.system.id, key(&operator, "Deleted").await.system.id);
    let fresh = operator.create_system("Fresh").await.id;
    let silent = silent_instance(&app, LONG).await;

    let response = operator.try_revoke_key(&revoked).await;
    let enforcement = response.data("revokeKey.enforcement");
    assert_eq!(enforcement["state"], "PENDING");
    assert!(enforcement["enforcedNoLaterThan"].as_str().expect("a time") > START.to_string().as_str());
    assert_eq!(operator.try_revoke_key(&revoked).await.code(), Some("UNAVAILABLE"));
    assert_eq!(state(&operator.try_delete_system(&deleted).await, "deleteSystem"), "PENDING");
    assert_eq!(operator.try_delete_system(&deleted).await.code(), Some("UNAVAILABLE"));
    assert_eq!(operator.try_revoke_key(&deleted).await.code(), Some("UNAVAILABLE"));

    let never = SystemId::new(START, &mut StdRng::seed_from_u64(99)).to_string();
    for response in [operator.try_revoke_key(&never).await, operator.try_delete_system(&never).await] {
        assert_eq!(response.code(), Some("NOT_FOUND"), "a system that never existed needs no barrier");
    }
    assert_eq!(operator.try_revoke_key(&fresh).await.code(), Some("KEY_NOT_GENERATED"));

    assert!(app.store.delete_lease(&silent).await.expect("deleted"));
    app.wait_until(async || operator.try_revoke_key(&revoked).await.code() == Some("KEY_NOT_GENERATED")).await;
    app.wait_until(async || operator.try_delete_system(&deleted).await.code() == Some("NOT_FOUND")).await;
}

on_both_stores![
    revocation_decided_on_a_stale_read_is_decided_again,
    narrowing_decided_on_a_stale_read_is_decided_again,
    changes_of_a_system_without_a_key_are_acknowledged_immediately,
    changes_of_names_are_not_acknowledged,
    repeat_is_probed_for_immediately,
];

/// A read is stale when another change is committed before it returns.
async fn revocation_decided_on_a_stale_read_is_decided_again(app: App) {
    let switch = Switch::default();
    let app = Arc::new(app.instance_with(2, with_switch(&switch, LONG)).await);
    let operator = app.operator(&ALL).await;
    let fresh = operator.create_system("Never had a key").await.id;
    let revoked = key(&operator, "Had a key").await.system.id;
    operator.revoke_key(&revoked).await;
    for system in [fresh, revoked] {
        let (at, token, id) = (Arc::clone(&app), operator.token.clone(), system.clone());
        switch.after("find_system", async move {
            at.anonymous().bearing(&token).query(GENERATE, json!({ "id": id })).await.data("generateKey.apiKey");
        });
        assert_eq!(operator.try_revoke_key(&system).await.code(), None, "the key that was generated is revoked");
        assert_eq!(operator.find_system(&system).await.expect("the system").key_mark, None);
    }
}

async fn narrowing_decided_on_a_stale_read_is_decided_again(app: App) {
    let switch = Switch::default();
    let app = Arc::new(app.instance_with(2, with_switch(&switch, LONG)).await);
    let operator = app.operator(&["view"]).await;
    let username = operator.username.clone();
    let set = |codes: &[&str]| Command::SetPermissions {
        username: username.parse().expect("a username"),
        permissions: permissions(codes),
        all: false,
    };
    let (at, widen) = (Arc::clone(&app), set(&ALL));
    switch.after("find_operator_by_username", async move {
        at.command(widen).await.expect("widened");
    });
    app.command(set(&["view"])).await.expect("narrowed");
    assert_eq!(operator.try_create_system("Not allowed").await.code(), Some("FORBIDDEN"));
}

/// Nothing but the changes makes the other instance send a probe within the probe interval.
async fn changes_of_a_system_without_a_key_are_acknowledged_immediately(app: App) {
    let (second, third) = futures::join!(app.instance_with(2, with(RARELY)), app.instance_with(3, with(RARELY)));
    futures::join!(app.wait_for_cache(), second.wait_for_cache(), third.wait_for_cache());
    let operator = app.operator(&ALL).await;
    let operator = operator.at(&second);
    let system = operator.create_system("Without a key").await.id;
    let document = "mutation ($id: ID!) { suspendSystem(id: $id) { enforcement { state instances } }
        resumeSystem(id: $id) { enforcement { state instances } }
        deleteSystem(id: $id) { enforcement { state instances } } }";
    let changed = within(operator.query(document, json!({ "id": system }))).await;
    for change in ["suspendSystem", "resumeSystem", "deleteSystem"] {
        let enforcement = changed.data(&format!("{change}.enforcement"));
        assert_eq!(enforcement, &json!({ "state": "ENFORCED", "instances": 3 }), "{change}");
    }
}

/// The one probe is that of the revocation.
async fn changes_of_names_are_not_acknowledged(app: App) {
    let switch = Switch::default();
    let author = app.instance_with(2, with(RARELY)).await;
    let other = app.instance_with(3, with_switch(&switch, RARELY)).await;
    futures::join!(author.wait_for_cache(), other.wait_for_cache());
    let operator = app.operator(&ALL).await;
    let operator = operator.at(&author);
    let Generated { api_key, system } = key(&operator, "Before").await;
    let probes = switch.calls(&["put_lease"]);
    let document = "mutation ($id: ID!) { renameSystem(id: $id, name: \"After\") { system { id } }
        setExternalId(systemId: $id, externalId: \"cus_1\") { system { id } } }";
    operator.query(document, json!({ "id": system.id })).await.data("setExternalId.system.id");
    let is_applied = async || {
        let identity = other.verifier().verify(&api_key).await.body;
        identity["systemName"] == "After" && identity["externalId"] == "cus_1"
    };
    within(other.wait_until(is_applied)).await;
    operator.revoke_key(&system.id).await;
    assert_eq!(switch.calls(&["put_lease"]), probes + 1);
}

/// Counts the probe: nothing but the repeat sends one within the probe interval.
async fn repeat_is_probed_for_immediately(app: App) {
    let switch = Switch::default();
    let app = app.instance_with(2, with_switch(&switch, RARELY)).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let system = key(&operator, "Revoked").await.system.id;
    operator.revoke_key(&system).await;
    let probes = switch.calls(&["put_lease"]);
    let repeated = within(operator.try_revoke_key(&system)).await;
    assert_eq!(repeated.code(), Some("KEY_NOT_GENERATED"));
    assert!(switch.calls(&["put_lease"]) > probes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_instance_is_waited_for_until_its_lease_is_deleted() {
    let app = App::mongodb_with(with(LONG)).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let system = key(&operator, "Billing").await.system.id;
    let silent = silent_instance(&app, LONG).await;
    let mut feed = follow(&*app.store, None).await;
    let responded = AtomicBool::new(false);
    let revoking = async {
        let response = operator.try_revoke_key(&system).await;
        responded.store(true, Ordering::SeqCst);
        response
    };
    let deleting = async {
        while feed.next().await.entry.is_none_or(|entry| entry.event.action != AuditAction::KeyRevoked) {}
        assert_eq!(operator.find_system(&system).await.expect("there").key_state, "NOT_GENERATED");
        assert!(!responded.load(Ordering::SeqCst));
        assert!(app.store.delete_lease(&silent).await.expect("deleted"));
    };
    let (response, ()) = tokio::join!(revoking, deleting);
    assert_eq!(state(&response, "revokeKey"), "ENFORCED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_instance_is_waited_for_until_its_lease_expires() {
    let app = App::mongodb_with(with(SHORT)).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let systems = [key(&operator, "One").await.system.id, key(&operator, "Other").await.system.id];
    silent_instance(&app, SHORT).await;
    for system in systems {
        assert_eq!(state(&operator.try_revoke_key(&system).await, "revokeKey"), "ENFORCED");
        assert_eq!(operator.try_revoke_key(&system).await.code(), Some("KEY_NOT_GENERATED"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_loaded_before_the_join_lease_is_put_and_no_instance_waits_for_it() {
    let app = App::mongodb_with(with(LONG)).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let ending = key(&operator, "Ending").await;
    let (switch, (open, opened)) = (Switch::default(), oneshot::channel());
    switch.after("put_lease", async { opened.await.expect("the test lets it continue") });
    let late = app.instance_with(2, with_switch(&switch, LONG)).await;
    switch.wait_for_calls("put_lease", 1).await;
    app.wait_until(async || app.store.list_leases().await.expect("leases").len() == 2).await;
    let revoked = operator.try_revoke_key(&ending.system.id).await;
    let enforcement = revoked.data("revokeKey.enforcement");
    assert_eq!((&enforcement["state"], &enforcement["instances"]), (&json!("ENFORCED"), &json!(1)));
    assert_eq!(switch.calls(&["scan_rows", "list_leases"]), 0);
    let written = app.store.list_leases().await.expect("leases");

    open.send(()).expect("it waits");
    late.wait_for_cache().await;
    assert_eq!(switch.calls(&["scan_rows"]), 1);
    assert_eq!(late.verifier().code(&ending.api_key).await, "REVOKED");
    let leases = app.store.list_leases().await.expect("leases");
    let still_there = |lease: &&Lease| leases.iter().any(|found| found.incarnation == lease.incarnation);
    assert_eq!((leases.len(), written.iter().filter(still_there).count()), (2, 1), "{written:?} {leases:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_that_stops_while_its_join_lease_is_put_deletes_it() {
    let app = App::mongodb().await;
    app.wait_for_cache().await;
    let (switch, (open, opened)) = (Switch::default(), oneshot::channel());
    switch.after("put_lease", async { opened.await.expect("the test lets it continue") });
    let stopping = app.instance_with(2, with_switch(&switch, Setup::default().timing)).await;
    let wait_for_leases =
        async |count| app.wait_until(async || app.store.list_leases().await.expect("leases").len() == count).await;
    wait_for_leases(2).await;
    drop(stopping);
    open.send(()).expect("it waits");
    wait_for_leases(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_that_does_not_deliver_the_join_lease_is_opened_again_before_anything_is_loaded() {
    let app = App::mongodb().await;
    let switch = Switch::default();
    switch.skip_leases(true);
    let late = app.instance_with(2, with_switch(&switch, Setup::default().timing)).await;
    switch.wait_for_calls("watch", 2).await;
    assert_eq!(switch.calls(&["scan_rows", "list_leases"]), 0);
    switch.skip_leases(false);
    switch.break_feeds();
    late.wait_for_cache().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_is_correct_before_its_cache_is_loaded_and_ready_afterwards() {
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    let (good, ending) = (key(&operator, "Good").await, key(&operator, "Ending").await);
    let (switch, (open, opened)) = (Switch::default(), oneshot::channel());
    switch.after("scan_rows", async { opened.await.expect("the test lets it continue") });
    let late = app.instance_with(2, with_switch(&switch, Setup::default().timing)).await;
    switch.wait_for_calls("scan_rows", 1).await;
    assert_eq!(late.verifier().code(&ending.api_key).await, "VALID");
    operator.revoke_key(&ending.system.id).await;
    let added = key(&operator.at(&late), "Added").await;
    assert_eq!(late.anonymous().get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let verdicts_are_correct = async || {
        for (key, verdict) in [(&good, "VALID"), (&ending, "REVOKED"), (&added, "VALID")] {
            assert_eq!(late.verifier().code(&key.api_key).await, verdict);
        }
        assert!(operator.at(&late).is_signed_in().await);
    };
    verdicts_are_correct().await;
    open.send(()).expect("it is waiting");
    late.wait_until(async || late.anonymous().get("/readyz").await.status == StatusCode::OK).await;
    verdicts_are_correct().await;
    late.wait_for_cache().await;
    verdicts_are_correct().await;
}

/// Revokes two keys, and delivers the first revocation to another instance this many times. Checks that both are enforced
/// there, and returns the switch of that instance.
async fn deliver_a_revocation(times: usize) -> (Switch, App) {
    let app = App::mongodb_with(with(LONG)).await;
    let switch = Switch::default();
    let other = app.instance_with(2, with_switch(&switch, LONG)).await;
    app.wait_for_cache().await;
    other.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let (first, next) = (key(&operator, "First").await, key(&operator, "Next").await);
    switch.deliver_next(times);
    operator.revoke_key(&first.system.id).await;
    operator.revoke_key(&next.system.id).await;
    for key in [&first, &next] {
        assert_eq!(other.verifier().code(&key.api_key).await, "REVOKED");
    }
    (switch, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_the_feed_skipped_is_enforced_with_the_next_one() {
    let (switch, _other) = deliver_a_revocation(0).await;
    switch.wait_for_calls("watch", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_the_feed_repeats_does_not_end_it() {
    let (switch, _other) = deliver_a_revocation(2).await;
    assert_eq!(switch.calls(&["watch"]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_while_the_feed_is_lost_are_enforced_immediately_and_cached_afterwards() {
    let app = App::mongodb_with(with(SHORT)).await;
    let switch = Switch::default();
    let other = app.instance_with(2, with_switch(&switch, SHORT)).await;
    let (operator, leaver) = (app.operator(&ALL).await, app.operator(&ALL).await);
    let (good, ending) = (key(&operator, "Good").await, key(&operator, "Ending").await);
    other.wait_for_cache().await;

    let (open, opened) = oneshot::channel();
    switch.after("watch", async { opened.await.expect("the test lets it continue") });
    switch.break_feeds();
    switch.wait_for_calls("watch", 2).await;
    let reads = switch.calls(&["find_key"]);
    for key in [&good, &ending] {
        assert_eq!(other.verifier().code(&key.api_key).await, "VALID");
    }
    assert_eq!(switch.calls(&["find_key"]), reads + 2);
    assert_eq!(state(&operator.try_revoke_key(&ending.system.id).await, "revokeKey"), "ENFORCED");
    let added = key(&operator, "Added").await;
    assert_eq!(leaver.sign_out().await.data("signOut.signedOut"), true);
    let verdicts_are_correct = async || {
        for (key, verdict) in [(&good, "VALID"), (&ending, "REVOKED"), (&added, "VALID")] {
            assert_eq!(other.verifier().code(&key.api_key).await, verdict);
        }
        assert!(!leaver.at(&other).is_signed_in().await && operator.at(&other).is_signed_in().await);
    };
    verdicts_are_correct().await;
    open.send(()).expect("it is waiting");
    other.wait_for_cache().await;
    verdicts_are_correct().await;
    other
        .wait_until(async || {
            let reads = switch.calls(&["find_key"]);
            verdicts_are_correct().await;
            switch.calls(&["find_key"]) == reads
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_is_enforced_although_the_feed_is_lost_after_its_commit() {
    let switch = Switch::default();
    let app = App::mongodb_with(with_switch(&switch, LONG)).await;
    let other = app.instance_with(2, with(LONG)).await;
    for instance in [&app, &other] {
        instance.wait_for_cache().await;
    }
    let operator = app.operator(&ALL).await;
    let ending = key(&operator, "Ending").await;
    let breaking = switch.clone();
    switch.after("commit", async move { breaking.break_feeds() });
    let response = operator.try_revoke_key(&ending.system.id).await;
    assert_eq!(state(&response, "revokeKey"), "ENFORCED");
    for instance in [&app, &other] {
        assert_eq!(instance.verifier().code(&ending.api_key).await, "REVOKED");
    }
    assert_eq!(switch.calls(&["watch"]), 2, "the feed was lost and opened again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_leases_of_length_zero_each_verification_reads_the_store_and_no_instance_is_waited_for() {
    for first in [App::mongodb_with(with(NONE)).await, App::embedded_with(with(NONE)).await] {
        let switch = Switch::default();
        let app = first.instance_with(2, with_switch(&switch, NONE)).await;
        let operator = first.operator(&ALL).await;
        let ending = key(&operator, "Ending").await;
        silent_instance(&app, NONE).await;
        for _ in 0..3 {
            assert_eq!(app.verifier().code(&ending.api_key).await, "VALID");
        }
        assert_eq!(switch.calls(&["find_key"]), 3);
        assert_eq!(state(&operator.try_revoke_key(&ending.system.id).await, "revokeKey"), "ENFORCED");
        for instance in [&first, &app] {
            assert_eq!(instance.verifier().code(&ending.api_key).await, "REVOKED");
        }
    }
}

/// Starts a server process over MongoDB, with leases of this length. The error is its exit status and log.
async fn server(options: &MongoOptions, lease: &str) -> Result<Server, (ExitStatus, String)> {
    let mut command = keymark();
    command.envs([
        ("KEYMARK_SECRET", SECRET),
        ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD),
        ("KEYMARK_MONGODB_URI", &options.uri),
        ("KEYMARK_MONGODB_DATABASE", &options.database),
    ]);
    command.args(["--lease", lease, "--probe-interval", "100ms"]);
    Server::run(command).await
}

/// Waits until the store has exactly leases of these lengths, in seconds; `None` for one of release 0.1.
async fn wait_for_leases(store: &MongoStore, expected: &[Option<u64>]) {
    let lengths = async || {
        let leases = store.list_leases().await.expect("leases");
        let mut lengths: Vec<_> = leases.iter().map(|lease| lease.length.map(|length| length.as_secs())).collect();
        lengths.sort_unstable();
        lengths
    };
    let mut feed = follow(store, None).await;
    within(async {
        while lengths().await != expected {
            feed.next().await;
        }
    })
    .await;
}

fn started(server: Result<Server, (ExitStatus, String)>) -> Server {
    server.unwrap_or_else(|(status, log)| panic!("the server did not start: {status}: {log}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_delete_their_leases_on_exit() {
    let options = mongod::fresh_database().await;
    let store = MongoStore::connect(&options, Environment::system()).await.expect("a database");
    let servers = [started(server(&options, "2s").await), started(server(&options, "2s").await)];
    wait_for_leases(&store, &[Some(2), Some(2)]).await;
    for server in servers {
        let (status, log) = server.stop().await;
        assert!(status.success(), "{log}");
    }
    assert_eq!(store.list_leases().await.expect("leases"), []);
}

/// Generates a key for a new system. Returns the id of the system and the key.
async fn new_key(server: &Server, token: &str, name: &str) -> (String, String) {
    let create = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
    let created = server.graphql(Some(token), create, json!({ "name": name })).await;
    let id = created["data"]["createSystem"]["system"]["id"].as_str().expect("an id").to_owned();
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let generated = server.graphql(Some(token), generate, json!({ "id": id })).await;
    (id, generated["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned())
}

async fn revoke(server: &Server, token: &str, system: &str) -> Json {
    let revoke = "mutation ($id: ID!) { revokeKey(systemId: $id) { enforcement { state elapsedMs } } }";
    let revoked = server.graphql(Some(token), revoke, json!({ "id": system })).await;
    revoked["data"]["revokeKey"]["enforcement"].clone()
}

/// The lease length is changed while the servers run, to a longer one and back, and a crashed server is waited for as
/// long as its own lease lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_length_is_changed_one_server_at_a_time_while_keys_are_revoked() {
    let options = mongod::fresh_database().await;
    let store = MongoStore::connect(&options, Environment::system()).await.expect("a database");
    let setting = async || store.find_setting(LENGTH_SETTING).await.expect("a setting");
    let mut fleet = vec![started(server(&options, "1s").await), started(server(&options, "1s").await)];
    wait_for_leases(&store, &[Some(1), Some(1)]).await;
    assert_eq!(setting().await.as_deref(), Some("1000"));
    let token = fleet[0].sign_in("admin", PASSWORD).await;
    for (lease, expected, longest) in
        [("4s", [1, 4], "4000"), ("4s", [4, 4], "4000"), ("0", [0, 4], "4000"), ("1s", [0, 1], "4000")]
    {
        assert!(fleet.remove(0).stop().await.0.success());
        fleet.push(started(server(&options, lease).await));
        wait_for_leases(&store, &expected.map(Some)).await;
        assert_eq!(setting().await.as_deref(), Some(longest));
        for i in 0..2 {
            let (system, key) = new_key(&fleet[i], &token, &format!("{lease} after {expected:?} {i}")).await;
            for server in &fleet {
                assert_eq!(server.verdict(&key).await, "VALID");
            }
            assert_eq!(revoke(&fleet[1 - i], &token, &system).await["state"], "ENFORCED");
            for server in &fleet {
                assert_eq!(server.verdict(&key).await, "REVOKED");
            }
        }
    }

    let (longer, (system, _)) = (started(server(&options, "3s").await), new_key(&fleet[1], &token, "Last").await);
    wait_for_leases(&store, &[0, 1, 3].map(Some)).await;
    longer.kill().await;
    let enforcement = revoke(&fleet[1], &token, &system).await;
    assert_eq!(enforcement["state"], "ENFORCED");
    let elapsed = enforcement["elapsedMs"].as_f64().expect("a time");
    assert!((1_500.0..4_000.0).contains(&elapsed), "{enforcement}");
}

/// An instance of release 0.1 is a lease without a length and the setting that all of them share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longer_lease_is_refused_only_beside_a_running_instance_of_release_0_1() {
    let options = mongod::fresh_database().await;
    let store = MongoStore::connect(&options, Environment::system()).await.expect("a database");
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1000));
    let mut old = Lease { incarnation, sequence: 1, applied: LogTime::LAST, requests_ack: false, length: None };
    store.put_lease(&old).await.expect("put");
    assert!(store.replace_setting(LENGTH_SETTING, None, "1000").await.expect("set"));

    let shorter = started(server(&options, "1s").await);
    wait_for_leases(&store, &[None, Some(1)]).await;
    // It renews its lease once the server has listed it for the first time.
    let renewing = async {
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        loop {
            interval.tick().await;
            old.sequence += 1;
            store.put_lease(&old).await.expect("put");
        }
    };
    let (status, log) = tokio::select! {
        refused = server(&options, "2s") => refused.err().expect("refused"),
        () = renewing => unreachable!("it renews for ever"),
    };
    assert_eq!(status.code(), Some(2));
    let reason =
        "keymark: --lease: instances of Keymark 0.1 use 1s: use the same or less, or upgrade or stop them first";
    assert_eq!(log.lines().last(), Some(reason), "{log}");
    assert_eq!(store.find_setting(LENGTH_SETTING).await.expect("a setting").as_deref(), Some("1000"));

    let longer = started(server(&options, "2s").await);
    assert_eq!(store.find_setting(LENGTH_SETTING).await.expect("a setting").as_deref(), Some("2000"));
    // The lease of the instance that has crashed is deleted.
    wait_for_leases(&store, &[Some(1), Some(2)]).await;
    for server in [shorter, longer] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_beside_a_server_ends_after_the_server_enforces_its_change() {
    let options = mongod::fresh_database().await;
    let server = started(server(&options, "5min").await);
    let token = server.sign_in("admin", PASSWORD).await;
    let viewer = async || server.graphql(Some(&token), "{ viewer { permissions } }", json!({})).await;
    let place = [
        ("KEYMARK_SECRET", SECRET),
        ("KEYMARK_MONGODB_URI", &options.uri),
        ("KEYMARK_MONGODB_DATABASE", &options.database),
    ];
    for (codes, count) in [("none", 0), ("all", 8), ("view,edit", 2)] {
        let (code, _, said) = run(&place, &["operator", "set-permissions", "admin", codes]).await;
        assert_eq!(code, 0, "{said}");
        assert_eq!(viewer().await["data"]["viewer"]["permissions"].as_array().map(Vec::len), Some(count));
    }
    let (code, _, said) = run(&place, &["operator", "remove", "admin"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(viewer().await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    server.stop().await;
}
