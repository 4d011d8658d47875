//! The life of a key between generating and revoking: rotation, ends by time, suspension; and what people write about it.

use std::time::Duration;

use keymark::domain::keys::KeyDigest;
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::domain::time::Timestamp;
use keymark::domain::verdict::KeyStatus;
use mongodb::bson::{Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::actors::{ALL, Answer, App, Operator, START, Setup};
use crate::support::faulty::Switch;
use crate::support::{on_both_stores, within};

on_both_stores![
    both_keys_are_valid_during_a_rotation_and_only_the_new_one_after,
    a_key_that_never_arrived_is_replaced_by_a_rotation_without_overlap,
    a_lost_key_is_replaced_during_a_rotation_too,
    a_key_without_overlap_ends_when_it_is_rotated,
    a_rotation_can_be_ended_extended_and_revoked,
    an_overlap_or_expiry_out_of_range_is_refused_with_the_bound,
    a_key_is_refused_by_the_clock_and_its_end_is_logged_once,
    warnings_are_logged_once_each_whatever_the_number_of_instances,
    an_expiry_moved_earlier_is_enforced_on_every_instance,
    a_suspended_system_is_refused_everywhere_until_it_is_resumed,
    a_key_generated_while_suspended_is_refused_until_the_system_is_resumed,
    reasons_and_descriptions_reach_the_log_and_subscribers,
    the_policy_bounds_the_life_of_new_keys,
    renames_and_redescriptions_keep_both_keys,
    concurrent_rotations_on_two_instances_generate_one_key,
];

const ROTATE: &str = "mutation ($id: ID!, $overlap: Int! = 86400, $end: DateTime) {
    rotateKey(systemId: $id, overlapSeconds: $overlap, expiresAt: $end) {
        apiKey enforcement { state } system { revision keyState keyMark
            currentKey { role mark generatedAt generatedBy { name } expiresAt }
            retiringKey { role mark generatedAt expiresAt } lastKey { mark endedAt end reason } } } }";
const EXPIRE: &str = "mutation ($id: ID!, $role: KeyRole! = CURRENT, $end: DateTime) {
    setKeyExpiry(systemId: $id, role: $role, expiresAt: $end) { enforcement { state } system { revision
        currentKey { expiresAt } retiringKey { expiresAt } } } }";
const END: &str = "mutation ($id: ID!, $reason: String) { endRotation(systemId: $id, reason: $reason) {
    enforcement { state } system { retiringKey { mark } lastKey { mark end reason } } } }";
const SUSPEND: &str = "mutation ($id: ID!, $reason: String) { suspendSystem(id: $id, reason: $reason) {
    enforcement { state } system { revision keyState keyMark suspendedAt suspendedReason } } }";
const RESUME: &str =
    "mutation ($id: ID!) { resumeSystem(id: $id) { enforcement { state } system { keyState suspendedAt } } }";

const IDENTIFY: &str =
    "mutation ($id: ID!) { setExternalId(systemId: $id, externalId: \"cus_1\") { system { externalId } } }";

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Operator<'_> {
    async fn rotate(&self, id: &str, overlap: Duration) -> Answer {
        self.query(ROTATE, json!({ "id": id, "overlap": overlap.as_secs() })).await
    }

    async fn expire(&self, id: &str, role: &str, end: Option<Timestamp>) -> Answer {
        let end = end.map(|end| end.to_string());
        self.query(EXPIRE, json!({ "id": id, "role": role, "end": end })).await
    }

    async fn on(&self, document: &str, id: &str) -> Answer {
        self.query(document, json!({ "id": id })).await
    }
}

fn key_of(answer: &Answer, mutation: &str) -> String {
    answer.data(&format!("{mutation}.apiKey")).as_str().expect("a key").to_owned()
}

/// The verdicts of each app on this key.
async fn codes(apps: [&App; 2], key: &str) -> [String; 2] {
    [apps[0].verifier().code(key).await, apps[1].verifier().code(key).await]
}

/// The actions in the log after this many entries, without those of refused verifications.
async fn actions_after(app: &App, entries: usize) -> Vec<String> {
    let log = app.log_of("acme").await;
    let actions = log[entries..].iter().map(|entry| entry["event"]["action"].as_str().unwrap().to_owned());
    actions.filter(|action| !action.ends_with("_KEY_PRESENTED")).collect()
}

/// The newest event of this action.
async fn newest_event(app: &App, action: &str) -> Json {
    let log = app.log_of("acme").await;
    let event = log.iter().rev().map(|entry| &entry["event"]).find(|event| event["action"] == action);
    event.expect("an entry").clone()
}

async fn both_keys_are_valid_during_a_rotation_and_only_the_new_one_after(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let nothing = operator.rotate(&system, DAY).await;
    assert_eq!(nothing.code(), Some("KEY_NOT_GENERATED"));
    let old = operator.generate_key(&system).await.api_key;
    let rotated = operator.rotate(&system, DAY).await;
    let new = key_of(&rotated, "rotateKey");
    for key in [&old, &new] {
        assert_eq!(codes([&app, &other], key).await, ["VALID", "VALID"]);
    }
    let end = START.plus(DAY).to_string();
    let shown = rotated.data("rotateKey.system");
    assert_eq!(
        [&shown["currentKey"], &shown["retiringKey"]],
        [
            &json!({ "role": "CURRENT", "mark": &new[48..], "generatedAt": START.to_string(),
                "generatedBy": { "name": operator.username }, "expiresAt": null }),
            &json!({ "role": "RETIRING", "mark": &old[48..], "generatedAt": START.to_string(), "expiresAt": end }),
        ]
    );
    let verified = [other.verifier().verify(&old).await.body, other.verifier().verify(&new).await.body];
    assert_eq!((&verified[0]["keyRole"], &verified[0]["expiresAt"]), (&json!("RETIRING"), &json!(end)));
    assert_eq!((&verified[1]["keyRole"], verified[1].get("expiresAt")), (&json!("CURRENT"), None));
    let forwarded = other.verifier().forward_auth(&[("x-api-key", &old)]).await;
    assert_eq!(
        (forwarded.header("x-keymark-key-mark"), forwarded.header("x-keymark-key-expires-at")),
        (Some(&old[48..]), Some(end.as_str()))
    );
    let again = operator.rotate(&system, DAY).await;
    assert_eq!(again.code(), Some("ROTATION_IN_PROGRESS"));

    // No instance needs the store to refuse it from the very millisecond on.
    app.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(codes([&app, &other], &old).await, ["VALID", "VALID"]);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(codes([&app, &other], &old).await, ["EXPIRED", "EXPIRED"]);
    let before = other.verifier().verify(&old).await.body;
    assert_eq!(
        before,
        json!({ "valid": false, "code": "EXPIRED", "tenantId": "acme", "systemId": system, "mark": &old[48..],
            "since": end })
    );
    app.service.write_due_keys().await.expect("written");
    assert_eq!(other.verifier().verify(&old).await.body, before, "the event changes nothing for gateways");
    assert_eq!(codes([&app, &other], &new).await, ["VALID", "VALID"]);
    // Sessions are shorter than the overlap.
    let operator = app.operator(&ALL).await;
    let ended = operator
        .on("query ($id: ID!) { system(id: $id) { retiringKey { mark } lastKey { mark endedAt end } } }", &system);
    assert_eq!(
        ended.await.data("system"),
        &json!({ "retiringKey": null, "lastKey": { "mark": &old[48..], "endedAt": end, "end": "ROTATED_OUT" } })
    );
    let refused = other.verifier().forward_auth(&[("x-api-key", &old)]).await;
    let challenge = r#"Bearer realm="keymark", error="invalid_token", error_description="EXPIRED""#;
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
}

/// Sends a mutation, and closes the connection before the response is sent. Returns the digest of the key that it generated,
/// which is all that is left of that key.
async fn lose(app: &App, switch: &Switch, operator: &Operator<'_>, document: &str, system: &str) -> KeyDigest {
    let id = system.parse().expect("an id");
    let digest = async || {
        let system = app.store.find_system(&"acme".parse().unwrap(), id).await.expect("read").expect("a system");
        system.key.map(|key| key.digest)
    };
    let before = digest().await;
    let held = switch.hold("commit", 1);
    let commits = switch.calls(&["commit"]);
    let mut client = within(TcpStream::connect(app.listen().await)).await.expect("connected");
    let body = json!({ "query": document, "variables": { "id": system } }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        operator.token,
        body.len()
    );
    within(client.write_all(format!("{head}{body}").as_bytes())).await.expect("sent");
    switch.wait_for_calls("commit", commits + 1).await;
    drop((client, held));
    app.wait_until(async || digest().await != before).await;
    digest().await.expect("a key")
}

async fn a_key_that_never_arrived_is_replaced_by_a_rotation_without_overlap(app: App) {
    let switch = Switch::default();
    let (served, other) =
        (app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await, app.instance(3).await);
    served.wait_for_cache().await;
    other.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let statuses = |digest: KeyDigest| {
        [&app, &served, &other].map(|app| {
            let status = app.coherence.read(|cache| cache.keys.find(&digest)).expect("a lease");
            matches!(status.expect("a known key"), KeyStatus::Live { .. })
        })
    };

    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let generated = lose(&served, &switch, &operator, generate, &system).await;
    let first = operator.rotate(&system, Duration::ZERO).await;
    assert_eq!(first.data("rotateKey.enforcement.state"), "ENFORCED");
    assert_eq!(statuses(generated), [false; 3]);
    let first = key_of(&first, "rotateKey");
    assert_eq!(codes([&served, &other], &first).await, ["VALID", "VALID"]);

    let rotate = "mutation ($id: ID!) { rotateKey(systemId: $id, overlapSeconds: 86400) { apiKey } }";
    let lost = lose(&served, &switch, &operator, rotate, &system).await;
    let second = operator.rotate(&system, Duration::ZERO).await;
    assert_eq!(second.data("rotateKey.enforcement.state"), "ENFORCED");
    assert_eq!(statuses(lost), [false; 3]);
    for key in [&first, &key_of(&second, "rotateKey")] {
        assert_eq!(codes([&served, &other], key).await, ["VALID", "VALID"], "clients still use the one before");
    }
    app.clock.advance(DAY);
    assert_eq!(codes([&served, &other], &first).await, ["EXPIRED", "EXPIRED"], "its overlap stays as it was");
}

async fn a_lost_key_is_replaced_during_a_rotation_too(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let old = operator.generate_key(&system).await.api_key;
    let before = operator.rotate(&system, DAY).await;
    let lost = key_of(&before, "rotateKey");
    let rotated = operator.at(&other).rotate(&system, Duration::ZERO).await;
    let new = key_of(&rotated, "rotateKey");
    let shown = rotated.data("rotateKey.system");
    assert_eq!(shown["retiringKey"], before.data("rotateKey.system")["retiringKey"]);
    assert_eq!(
        (&shown["lastKey"]["mark"], &shown["lastKey"]["end"], &shown["keyMark"]),
        (&json!(&lost[48..]), &json!("ROTATED_OUT"), &json!(&new[48..]))
    );
    for (key, code) in [(&old, "VALID"), (&lost, "EXPIRED"), (&new, "VALID")] {
        assert_eq!(codes([&app, &other], key).await, [code, code]);
    }
    let entry = newest_event(&app, "KEY_ROTATED").await;
    assert_eq!((&entry["keyMark"], &entry["previousKeyMark"]), (&json!(&new[48..]), &json!(&lost[48..])));
    assert_eq!(operator.rotate(&system, HOUR).await.code(), Some("ROTATION_IN_PROGRESS"));

    app.clock.advance(DAY);
    app.service.write_due_keys().await.expect("written");
    for (key, code) in [(&old, "EXPIRED"), (&lost, "EXPIRED"), (&new, "VALID")] {
        assert_eq!(codes([&app, &other], key).await, [code, code]);
    }
    // Sessions are shorter than the overlap.
    assert_eq!(app.operator(&ALL).await.rotate(&system, HOUR).await.code(), None);
}

async fn a_key_without_overlap_ends_when_it_is_rotated(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let lost = operator.generate_key(&system).await.api_key;
    let rotated = operator.rotate(&system, Duration::ZERO).await;
    assert_eq!(rotated.data("rotateKey.enforcement.state"), "ENFORCED");
    assert_eq!(codes([&app, &other], &lost).await, ["EXPIRED", "EXPIRED"]);
    assert_eq!(codes([&app, &other], &key_of(&rotated, "rotateKey")).await, ["VALID", "VALID"]);
    let shown = rotated.data("rotateKey.system");
    assert_eq!((&shown["retiringKey"], &shown["lastKey"]["end"]), (&json!(null), &json!("ROTATED_OUT")));
    assert_eq!(operator.rotate(&system, Duration::ZERO).await.code(), None, "nothing is in progress");
}

async fn a_rotation_can_be_ended_extended_and_revoked(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    assert_eq!(operator.on(END, &system).await.code(), Some("KEY_NOT_GENERATED"));
    let old = operator.generate_key(&system).await.api_key;
    let new = key_of(&operator.rotate(&system, HOUR).await, "rotateKey");

    let later = START.plus(3 * HOUR);
    let extended = operator.at(&other).expire(&system, "RETIRING", Some(later)).await;
    assert_eq!(extended.data("setKeyExpiry.system.retiringKey.expiresAt"), &json!(later.to_string()));
    app.clock.advance(2 * HOUR);
    app.service.write_due_keys().await.expect("nothing is due");
    assert_eq!(codes([&app, &other], &old).await, ["VALID", "VALID"]);
    let endless = operator.expire(&system, "RETIRING", None).await;
    assert_eq!(endless.code(), Some("BAD_USER_INPUT"));

    let ended = operator.query(END, json!({ "id": system, "reason": "all clients have moved" })).await;
    assert_eq!(
        ended.data("endRotation"),
        &json!({ "enforcement": { "state": "ENFORCED" }, "system": { "retiringKey": null,
            "lastKey": { "mark": &old[48..], "end": "REVOKED", "reason": "all clients have moved" } } })
    );
    assert_eq!(codes([&app, &other], &old).await, ["REVOKED", "REVOKED"]);
    assert_eq!(codes([&app, &other], &new).await, ["VALID", "VALID"]);
    assert_eq!(operator.on(END, &system).await.code(), Some("KEY_NOT_GENERATED"), "a repeat is safe");

    let newest = key_of(&operator.rotate(&system, HOUR).await, "rotateKey");
    operator.revoke_key(&system).await;
    for key in [&new, &newest] {
        assert_eq!(codes([&app, &other], key).await, ["REVOKED", "REVOKED"], "both end");
    }
    let revoked = newest_event(&app, "KEY_REVOKED").await;
    assert_eq!((&revoked["keyMark"], &revoked["previousKeyMark"]), (&json!(&newest[48..]), &json!(&new[48..])));
}

async fn an_overlap_or_expiry_out_of_range_is_refused_with_the_bound(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    operator.generate_key(&system).await;
    let message = |answer: Answer| {
        assert_eq!(answer.code(), Some("BAD_USER_INPUT"), "{}", answer.text);
        answer.error()["message"].as_str().expect("a message").to_owned()
    };
    for overlap in [-1, 2_592_001] {
        let refused = operator.query(ROTATE, json!({ "id": system, "overlap": overlap })).await;
        assert_eq!(message(refused), "overlapSeconds must be from 0 to 2592000 (30 days).");
    }
    for end in [START, START.plus(Duration::from_secs(59)), Timestamp::from_millis(0)] {
        let refused = operator.expire(&system, "CURRENT", Some(end)).await;
        assert!(message(refused).contains("at least a minute ahead: 2023-11-14T22:14:20.000Z"));
        let end = end.to_string();
        message(operator.query(ROTATE, json!({ "id": system, "overlap": 60, "end": end })).await);
    }
    assert_eq!(operator.expire(&system, "RETIRING", Some(START.plus(HOUR))).await.code(), Some("KEY_NOT_GENERATED"));
    let rotated = operator.query(ROTATE, json!({ "id": system, "overlap": 2_592_000 })).await;
    assert_eq!(rotated.code(), None);
    let refused = operator.expire(&system, "RETIRING", Some(START.plus(30 * DAY + HOUR))).await;
    assert!(message(refused).contains("between a minute and 30 days ahead"));
    let long = "é".repeat(201);
    let refused = operator.query(SUSPEND, json!({ "id": system, "reason": long })).await;
    assert_eq!(message(refused), "The reason is too long. Use at most 200 characters.");
}

async fn a_key_is_refused_by_the_clock_and_its_end_is_logged_once(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let end = START.plus(HOUR);
    let generate = "mutation ($id: ID!, $end: DateTime) { generateKey(systemId: $id, expiresAt: $end) {
        apiKey system { currentKey { expiresAt } } } }";
    let generated = operator.query(generate, json!({ "id": system, "end": end.to_string() })).await;
    let key = key_of(&generated, "generateKey");
    app.clock.advance(HOUR);
    assert_eq!(codes([&app, &other], &key).await, ["EXPIRED", "EXPIRED"]);
    assert_eq!(newest_event(&app, "EXPIRED_KEY_PRESENTED").await["keyMark"], key[48..]);
    let shown = operator.find_system(&system).await.expect("the system");
    assert_eq!(shown.key_state, "ACTIVE", "until the end is committed");

    let before = app.log_of("acme").await.len();
    let writing = [app.service.write_due_keys(), other.service.write_due_keys()];
    let written = futures::future::try_join_all(writing).await.expect("written");
    assert_eq!(written.iter().sum::<u64>(), 1, "the other instance finds it done");
    assert_eq!(actions_after(&app, before).await, ["KEY_EXPIRED"]);
    let event = newest_event(&app, "KEY_EXPIRED").await;
    assert_eq!(
        (&event["actor"]["name"], &event["keyMark"], &event["keyExpiresAt"]),
        (&json!("keymark"), &json!(&key[48..]), &json!(end.as_millis()))
    );
    let shown = operator.find_system(&system).await.expect("the system");
    assert_eq!((shown.key_state.as_str(), shown.key_mark), ("NOT_GENERATED", None));
    assert_eq!(codes([&app, &other], &key).await, ["EXPIRED", "EXPIRED"]);
    assert_eq!(codes([&app, &other], &operator.generate_key(&system).await.api_key).await, ["VALID", "VALID"]);
}

async fn warnings_are_logged_once_each_whatever_the_number_of_instances(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    operator.generate_key(&system).await;
    operator.expire(&system, "CURRENT", Some(START.plus(40 * DAY))).await;
    let before = app.log_of("acme").await.len();
    let mut revisions = Vec::new();
    // At 31, 30, 20, 7, 2, 1 and 0 days before the end.
    for days in [9, 1, 10, 13, 5, 1, 1] {
        app.clock.advance(days * DAY);
        for instance in [&app, &other, &app] {
            instance.service.write_due_keys().await.expect("written");
        }
        revisions.push(
            app.store.find_system(&"acme".parse().unwrap(), system.parse().unwrap()).await.unwrap().unwrap().revision,
        );
    }
    let warned = "KEY_EXPIRY_WARNED";
    assert_eq!(actions_after(&app, before).await, [warned, warned, warned, "KEY_EXPIRED"]);
    assert_eq!(revisions, [3, 3, 3, 3, 3, 3, 4], "a warning changes nothing of the system");
    let operator = app.operator(&ALL).await;
    let expiring = operator.expire(&system, "CURRENT", Some(START.plus(90 * DAY))).await;
    assert_eq!(expiring.code(), Some("KEY_NOT_GENERATED"));
}

async fn an_expiry_moved_earlier_is_enforced_on_every_instance(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let key = operator.generate_key(&system).await.api_key;
    operator.expire(&system, "CURRENT", Some(START.plus(40 * DAY))).await;
    let moved = operator.expire(&system, "CURRENT", Some(START.plus(HOUR))).await;
    assert_eq!(moved.data("setKeyExpiry.enforcement.state"), "ENFORCED");
    app.clock.advance(HOUR);
    assert_eq!(codes([&app, &other], &key).await, ["EXPIRED", "EXPIRED"]);
    let before = app.log_of("acme").await.len();
    // A later end, asked for before anybody committed the expiry.
    let later = operator.expire(&system, "CURRENT", Some(START.plus(3 * HOUR))).await;
    assert_eq!(later.data("setKeyExpiry.enforcement.state"), "ENFORCED");
    assert_eq!(codes([&app, &other], &key).await, ["VALID", "VALID"]);
    let same = operator.expire(&system, "CURRENT", Some(START.plus(3 * HOUR))).await;
    assert_eq!(same.code(), None);
    operator.expire(&system, "CURRENT", None).await;
    app.clock.advance(100 * DAY);
    app.service.write_due_keys().await.expect("nothing is due");
    assert_eq!(codes([&app, &other], &key).await, ["VALID", "VALID"]);
    let written = actions_after(&app, before).await;
    assert_eq!(written, ["KEY_EXPIRY_CHANGED", "KEY_EXPIRY_CHANGED"]);
}

async fn a_suspended_system_is_refused_everywhere_until_it_is_resumed(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let old = operator.generate_key(&system).await.api_key;
    let new = key_of(&operator.rotate(&system, HOUR).await, "rotateKey");
    let suspended = operator.query(SUSPEND, json!({ "id": system, "reason": " unused " })).await;
    assert_eq!(
        suspended.data("suspendSystem"),
        &json!({ "enforcement": { "state": "ENFORCED" }, "system": { "revision": 4, "keyState": "SUSPENDED",
            "keyMark": &new[48..], "suspendedAt": START.to_string(), "suspendedReason": "unused" } })
    );
    for key in [&old, &new] {
        assert_eq!(codes([&app, &other], key).await, ["SUSPENDED", "SUSPENDED"]);
    }
    assert_eq!(
        other.verifier().verify(&new).await.body,
        json!({ "valid": false, "code": "SUSPENDED", "tenantId": "acme", "systemId": system, "mark": &new[48..],
            "since": START.to_string() })
    );
    let before = app.log_of("acme").await.len();
    let repeated = operator.query(SUSPEND, json!({ "id": system, "reason": "again" })).await;
    assert_eq!(repeated.data("suspendSystem.system.suspendedReason"), "unused");
    assert_eq!(actions_after(&app, before).await, [""; 0], "no second entry");

    // The overlap ends meanwhile. The suspension is the first reason, and the key ends once it is over.
    app.clock.advance(HOUR);
    app.service.write_due_keys().await.expect("nothing is due");
    assert_eq!(codes([&app, &other], &old).await, ["SUSPENDED", "SUSPENDED"]);
    let resumed = operator.at(&other).on(RESUME, &system).await;
    assert_eq!(
        resumed.data("resumeSystem"),
        &json!({ "enforcement": { "state": "ENFORCED" }, "system": { "keyState": "ACTIVE", "suspendedAt": null } })
    );
    assert_eq!(codes([&app, &other], &new).await, ["VALID", "VALID"]);
    assert_eq!(codes([&app, &other], &old).await, ["EXPIRED", "EXPIRED"]);
    assert_eq!(app.service.write_due_keys().await.expect("written"), 1);
    assert_eq!(operator.on(RESUME, &system).await.code(), Some("NOT_SUSPENDED"));

    operator.on(SUSPEND, &system).await;
    operator.delete_system(&system).await;
    assert_eq!(codes([&app, &other], &new).await, ["REVOKED", "REVOKED"], "the first reason");
}

async fn a_key_generated_while_suspended_is_refused_until_the_system_is_resumed(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    operator.on(SUSPEND, &system).await;
    let key = operator.generate_key(&system).await.api_key;
    assert_eq!(app.verifier().code(&key).await, "SUSPENDED");
    operator.on(RESUME, &system).await;
    assert_eq!(app.verifier().code(&key).await, "VALID");
}

async fn reasons_and_descriptions_reach_the_log_and_subscribers(app: App) {
    let operator = app.operator(&ALL).await;
    let create = "mutation { createSystem(name: \"Billing\", description: \" Issues invoices \") {
        system { id description } } }";
    let created = operator.query(create, json!({})).await;
    assert_eq!(created.data("createSystem.system.description"), "Issues invoices");
    let system = created.data("createSystem.system.id").as_str().expect("an id").to_owned();
    operator.generate_key(&system).await;
    let document = "subscription { systemChanged { kind system { description keyState } entry { action reason } } }";
    let changes = "subscription { keyStateChanged { kind } }";
    let mut all = operator.subscribe(document, json!({})).await;
    let mut of_keys = operator.subscribe(changes, json!({})).await;
    let describe = "mutation ($id: ID!, $text: String) { describeSystem(id: $id, description: $text) {
        system { description revision } } }";
    let described = operator.query(describe, json!({ "id": system, "text": "Invoices of 2026" })).await;
    assert_eq!(described.data("describeSystem.system"), &json!({ "description": "Invoices of 2026", "revision": 3 }));
    let same = operator.query(describe, json!({ "id": system, "text": "Invoices of 2026 " })).await;
    assert_eq!(same.data("describeSystem.system.revision"), 3);
    operator.query(SUSPEND, json!({ "id": system, "reason": "who needs it?" })).await;
    let delete = "mutation ($id: ID!) { deleteSystem(id: $id, reason: \"nobody\") { deletedSystemId } }";
    operator.on(delete, &system).await.data("deleteSystem.deletedSystemId");
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(all.next().await);
    }
    assert_eq!(
        received,
        [
            json!({ "kind": "DESCRIBED", "system": { "description": "Invoices of 2026", "keyState": "ACTIVE" },
                "entry": { "action": "SYSTEM_DESCRIBED", "reason": null } }),
            json!({ "kind": "SUSPENDED", "system": { "description": "Invoices of 2026", "keyState": "SUSPENDED" },
                "entry": { "action": "SYSTEM_SUSPENDED", "reason": "who needs it?" } }),
            json!({ "kind": "DELETED", "system": null, "entry": { "action": "SYSTEM_DELETED", "reason": "nobody" } }),
        ]
    );
    assert_eq!(of_keys.next().await["kind"], "SUSPENDED", "descriptions are left out");
}

async fn the_policy_bounds_the_life_of_new_keys(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let set = async |days: &str| {
        let output = app.cli(&["tenant", "set-policy", "acme", "--max-key-lifetime-days", days]).await;
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(set("90").await, (true, "acme\tacme\tactive\tkeys 90 days\n".to_owned()));
    assert!(!set("0").await.0 && !set("many").await.0);
    let generated = operator.generate_key(&system).await;
    let end = |answer: &Answer| answer.data("rotateKey.system.currentKey.expiresAt").clone();
    let latest = START.plus(90 * DAY);
    assert_eq!(end(&operator.rotate(&system, Duration::ZERO).await), json!(latest.to_string()), "without an expiry");
    let refused = operator.expire(&system, "CURRENT", Some(latest.plus(HOUR))).await;
    assert_eq!(
        refused.error()["message"],
        format!("Your tenant's policy allows keys of at most 90 days: expiresAt must be {latest} or earlier.")
    );
    assert_eq!(operator.expire(&system, "CURRENT", None).await.code(), Some("BAD_USER_INPUT"));
    assert_eq!(operator.expire(&system, "CURRENT", Some(START.plus(DAY))).await.code(), None);
    assert_eq!(app.verifier().code(&generated.api_key).await, "EXPIRED");
    assert!(set("none").await.0);
    assert_eq!(end(&operator.rotate(&system, Duration::ZERO).await), json!(null));
    let log = app.log_of("acme").await;
    let policies = log.iter().map(|entry| &entry["event"]).filter(|event| event["action"] == "TENANT_POLICY_CHANGED");
    let policies: Vec<_> = policies.map(|event| event["count"].clone()).collect();
    assert_eq!(policies, [90, 0]);
}

async fn renames_and_redescriptions_keep_both_keys(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    let old = operator.generate_key(&system).await.api_key;
    let new = key_of(&operator.rotate(&system, DAY).await, "rotateKey");
    operator.rename_system(&system, "Billing EU").await;
    for (key, role) in [(&old, "RETIRING"), (&new, "CURRENT")] {
        app.wait_until(async || app.verifier().verify(key).await.body["systemName"] == "Billing EU").await;
        assert_eq!(app.verifier().verify(key).await.body["keyRole"], role);
    }
}

async fn concurrent_rotations_on_two_instances_generate_one_key(app: App) {
    let (operator, other) = (app.operator(&ALL).await, app.instance(2).await);
    let beside = operator.at(&other);
    let system = operator.create_system("Billing").await.id;
    operator.generate_key(&system).await;
    let rotations =
        (0..20).map(|i| if i % 2 == 0 { operator.rotate(&system, DAY) } else { beside.rotate(&system, DAY) });
    let answers = futures::future::join_all(rotations).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some("ROTATION_IN_PROGRESS")).count(), 19, "{codes:?}");
}

/// A running instance of release 0.1 ignores members that it does not know.
#[tokio::test]
async fn restrictions_are_refused_while_an_instance_of_the_first_release_runs() {
    let app = App::mongodb().await;
    let operator = app.operator(&[&ALL[..], &["operator_management:edit"]].concat()).await;
    let system = operator.create_system("Billing").await.id;
    operator.generate_key(&system).await;
    let other = app.operator(&[]).await.query("{ viewer { id } }", json!({})).await;
    let other = other.data("viewer.id").as_str().expect("an id").to_owned();
    let suspend_operator = format!("mutation {{ suspendOperator(id: \"{other}\") {{ enforcement {{ state }} }} }}");
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1000));
    // Leases of release 0.1 do not state their length.
    let lease = Lease { incarnation, sequence: 1, applied: LogTime::new(u64::MAX), requests_ack: false, length: None };
    app.store.put_lease(&lease).await.expect("put");
    app.wait_until(async || app.coherence.knows_first_release()).await;
    for refused in [
        operator.rotate(&system, DAY).await,
        operator.on(SUSPEND, &system).await,
        operator.expire(&system, "CURRENT", Some(START.plus(DAY))).await,
        operator.on(IDENTIFY, &system).await,
        operator.query(&suspend_operator, json!({})).await,
    ] {
        assert_eq!(refused.code(), Some("UNAVAILABLE"), "{}", refused.text);
    }
    assert_eq!(operator.try_revoke_key(&system).await.code(), None);
    app.store.delete_lease(&lease).await.expect("deleted");
    app.wait_until(async || !app.coherence.knows_first_release()).await;
    assert_eq!(operator.on(SUSPEND, &system).await.code(), None);
    assert_eq!(operator.query(&suspend_operator, json!({})).await.code(), None);
}

/// Only what release 0.1 must not ignore is written in the second format.
#[tokio::test]
async fn rows_state_the_second_format_only_while_they_have_a_restriction() {
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await.id;
    operator.generate_key(&system).await;
    let database = app.database().await;
    let formats = async || -> Vec<Json> {
        let mut formats = Vec::new();
        for name in ["systems", "keys"] {
            let found = database.collection::<Document>(name).find_one(doc! {}).sort(doc! { "revision": -1 }).await;
            formats.push(json!(found.unwrap().expect("a row").get_i64("format").ok()));
        }
        formats
    };
    assert_eq!(formats().await, [json!(null), json!(null)]);
    operator.on(SUSPEND, &system).await;
    assert_eq!(formats().await, [json!(2), json!(2)]);
    operator.on(RESUME, &system).await;
    assert_eq!(formats().await, [json!(null), json!(null)]);
    operator.on(IDENTIFY, &system).await;
    assert_eq!(
        formats().await,
        [json!(2), json!(null)],
        "release 0.1 may accept the key, and must not replace the system"
    );
}
