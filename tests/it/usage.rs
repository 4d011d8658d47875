//! Use of keys: each verification of a known key counts once, whatever happens to the key, the cache and the store.

use std::time::Duration;

use http::Method;
use keymark::domain::ids::{SystemId, TenantId};
use keymark::domain::usage::{Counts, Resolution, UsageRange, UsageSummary};
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, App, Generated, Operator, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;
use crate::support::process::{Server, directory};
use crate::support::sockets::Event;

const NEW_SECRET: &str = "another root secret, which replaces the first one";

on_both_stores![
    each_verification_of_a_known_key_counts_once,
    a_key_keeps_its_counts_when_it_changes,
    counts_survive_the_loss_of_the_feed,
    verifications_that_read_the_store_count,
    a_failed_flush_is_added_later,
    use_changes_neither_the_system_nor_its_audit_log,
    uses_in_rotation_are_flushed_by_themselves,
    use_past_its_retention_is_removed,
    the_api_shows_use_by_system_and_key,
    a_range_beyond_the_bounds_is_refused,
    subscribers_receive_the_system_after_flushes_of_any_instance,
    use_of_another_tenant_is_no_event,
];

async fn key(operator: &Operator<'_>, name: &str) -> Generated {
    operator.generate_key(&operator.create_system(name).await.id).await
}

async fn verify(app: &App, key: &Generated, times: usize, code: &str) {
    for _ in 0..times {
        assert_eq!(app.verifier().code(&key.api_key).await, code);
    }
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn id_of(key: &Generated) -> SystemId {
    key.system.id.parse().unwrap()
}

/// What the store has counted for the system of a key: accepted and refused in the last 24 hours.
async fn counted(app: &App, key: &Generated) -> (u64, u64) {
    let (now, retention) = (app.service.environment().now(), Setup::default().settings.usage_retention);
    let mut found = Vec::new();
    for resolution in [Resolution::Hour, Resolution::Day] {
        let range = UsageRange::new(resolution, None, None, now, retention).unwrap();
        let mut sum = Counts::default();
        app.store.find_usage(&acme(), id_of(key), &range).await.unwrap().iter().for_each(|bucket| sum += bucket.counts);
        found.push((sum.accepted, sum.refused));
    }
    assert_eq!(found[0], found[1], "hours and days agree");
    found[0]
}

async fn summary(app: &App, key: &Generated) -> Option<UsageSummary> {
    app.store.find_usage_summaries(&acme(), &[id_of(key)]).await.unwrap().pop()
}

async fn each_verification_of_a_known_key_counts_once(app: App) {
    let operator = app.operator(&ALL).await;
    let (used, other) = (key(&operator, "Billing").await, key(&operator, "Payroll").await);
    let second = app.instance(2).await;
    for app in [&app, &second] {
        app.wait_for_cache().await;
    }
    verify(&app, &used, 7, "VALID").await;
    verify(&second, &used, 5, "VALID").await;
    let last_used = app.clock.clone();
    verify(&app, &other, 1, "VALID").await;
    assert_eq!(counted(&app, &used).await, (0, 0), "nothing is written before a flush");
    app.service.flush_usage().await.unwrap();
    second.service.flush_usage().await.unwrap();
    assert_eq!(counted(&app, &used).await, (12, 0));

    last_used.advance(Duration::from_secs(5));
    operator.revoke_key(&used.system.id).await;
    verify(&app, &used, 2, "REVOKED").await;
    verify(&second, &used, 1, "REVOKED").await;
    for app in [&app, &second] {
        app.service.flush_usage().await.unwrap();
        app.service.flush_usage().await.unwrap();
    }
    assert_eq!(counted(&app, &used).await, (12, 3));
    assert_eq!(counted(&app, &other).await, (1, 0));
    let now = app.service.environment().now();
    let found = summary(&app, &used).await.unwrap();
    let mark = used.system.key_mark.clone().unwrap().try_into().unwrap();
    let of_key = found.keys[&mark];
    assert_eq!(found.last_used_at, Some(now.minus(Duration::from_secs(5))));
    assert_eq!((of_key.last_used_at, of_key.last_refused_at), (found.last_used_at, Some(now)));
    assert_eq!(of_key.refusals, 3);
    assert_eq!(app.service.usage_counted_until(), now);
}

async fn a_key_keeps_its_counts_when_it_changes(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    let replaced = Setup { secret: NEW_SECRET, previous_secrets: &[SECRET], ..Setup::default() };
    let app = app.instance_with(2, replaced).await;
    app.wait_for_cache().await;
    verify(&app, &used, 2, "VALID").await;
    operator.rename_system(&used.system.id, "Invoices").await;
    verify(&app, &used, 3, "VALID").await;
    assert_eq!(app.service.redigest_keys().await.unwrap(), 1);
    verify(&app, &used, 4, "VALID").await;
    operator.revoke_key(&used.system.id).await;
    verify(&app, &used, 1, "REVOKED").await;

    app.service.flush_usage().await.unwrap();
    assert_eq!(counted(&app, &used).await, (9, 1));
    assert_eq!(summary(&app, &used).await.unwrap().keys.len(), 1);
}

async fn counts_survive_the_loss_of_the_feed(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    let switch = Switch::default();
    let app = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.wait_for_cache().await;
    verify(&app, &used, 3, "VALID").await;
    let scans = switch.calls(&["scan_rows"]);
    switch.break_feeds();
    switch.wait_for_calls("scan_rows", scans + 1).await;
    app.wait_for_cache().await;
    verify(&app, &used, 2, "VALID").await;

    app.service.flush_usage().await.unwrap();
    assert_eq!(counted(&app, &used).await, (5, 0));
}

async fn verifications_that_read_the_store_count(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    let uncached = app.instance_with(2, Setup::without_leases()).await;
    verify(&uncached, &used, 4, "VALID").await;
    operator.delete_system(&used.system.id).await;
    verify(&uncached, &used, 2, "REVOKED").await;

    uncached.service.flush_usage().await.unwrap();
    assert_eq!(counted(&app, &used).await, (4, 2));
}

async fn a_failed_flush_is_added_later(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    let switch = Switch::default();
    let app = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.wait_for_cache().await;
    let began = app.service.environment().now();
    verify(&app, &used, 3, "VALID").await;
    switch.fail();
    app.clock.advance(Duration::from_secs(10));
    app.service.flush_usage().await.unwrap_err();
    app.service.flush_usage().await.unwrap_err();
    assert_eq!(app.service.usage_counted_until(), began);
    let lag = "keymark_usage_lag_seconds 10.0";
    let metrics = async || app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics().await.contains(lag));
    switch.work();
    app.wait_for_cache().await;
    verify(&app, &used, 4, "VALID").await;
    app.service.flush_usage().await.unwrap();

    assert_eq!(counted(&app, &used).await, (7, 0));
    let metrics = metrics().await;
    assert!(metrics.contains("keymark_usage_lag_seconds 0.0"));
    assert!(metrics.contains("keymark_usage_rows_total 6") && metrics.contains("keymark_usage_flush_failures_total 2"));
}

async fn use_changes_neither_the_system_nor_its_audit_log(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    app.wait_for_cache().await;
    let before = (operator.find_system(&used.system.id).await, app.log_of("acme").await);
    app.clock.advance(Duration::from_secs(60));
    verify(&app, &used, 3, "VALID").await;
    app.service.flush_usage().await.unwrap();

    let after = (operator.find_system(&used.system.id).await, app.log_of("acme").await);
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
}

async fn uses_in_rotation_are_flushed_by_themselves(app: App) {
    let operator = app.operator(&ALL).await;
    let (old, other) = (key(&operator, "Billing").await, key(&operator, "Payroll").await);
    let rotate = "mutation ($id: ID!) { rotateKey(systemId: $id) { apiKey } }";
    let rotated = operator.query(rotate, json!({ "id": old.system.id })).await;
    let api_key = rotated.data("rotateKey.apiKey").as_str().unwrap().to_owned();
    let new = Generated { api_key, system: operator.find_system(&old.system.id).await.unwrap() };
    app.wait_for_cache().await;
    verify(&app, &old, 2, "VALID").await;
    verify(&app, &new, 3, "VALID").await;
    verify(&app, &other, 4, "VALID").await;

    app.service.flush_usage_in_rotation().await.unwrap();
    assert_eq!(counted(&app, &old).await, (5, 0));
    assert_eq!(counted(&app, &other).await, (0, 0));
    app.service.flush_usage().await.unwrap();
    assert_eq!(counted(&app, &old).await, (5, 0));
    assert_eq!(counted(&app, &other).await, (4, 0));
    let keys = summary(&app, &old).await.unwrap().keys;
    assert_eq!(keys.len(), 2);
}

async fn use_past_its_retention_is_removed(app: App) {
    let operator = app.operator(&ALL).await;
    let used = key(&operator, "Billing").await;
    app.wait_for_cache().await;
    verify(&app, &used, 1, "VALID").await;
    app.service.flush_usage().await.unwrap();
    let rows = app.rows().await;
    let all =
        if app.is_embedded() { ["usage", "usage_hours", "usage_days"] } else { ["usage", "usageHours", "usageDays"] };
    assert_eq!(all.map(|name| rows[name]), [1, 1, 1]);

    app.clock.advance(Duration::from_hours(10 * 24));
    assert_eq!(app.service.purge_usage().await.unwrap(), 1);
    app.clock.advance(Duration::from_hours(430 * 24));
    assert_eq!(app.service.purge_usage().await.unwrap(), 1);
    assert_eq!(app.service.purge_usage().await.unwrap(), 0);
    let rows = app.rows().await;
    assert_eq!(all.map(|name| rows[name]), [1, 0, 0], "the last use of an existing system is kept");
}

/// The operator's view of a system's use.
const USE: &str = "query ($id: ID!, $from: DateTime, $to: DateTime, $by: UsageResolution! = HOUR) { system(id: $id) {
    lastUsedAt
    usage(from: $from, to: $to, resolution: $by) { accepted refused countedUntil buckets { from accepted refused } }
    currentKey { mark lastUsedAt usage { accepted refused } }
    retiringKey { mark lastUsedAt usage { accepted refused } }
    lastKey { mark lastRefusedAt refusals } } }";

async fn shown(operator: &Operator<'_>, variables: Json) -> Json {
    operator.query(USE, variables).await.data("system").clone()
}

async fn the_api_shows_use_by_system_and_key(app: App) {
    let operator = app.operator(&ALL).await;
    let revoked = key(&operator, "Billing").await;
    let id = &revoked.system.id;
    app.wait_for_cache().await;
    let unused = shown(&operator, json!({ "id": id })).await;
    assert_eq!((&unused["lastUsedAt"], &unused["currentKey"]["lastUsedAt"]), (&Json::Null, &Json::Null));
    assert_eq!(unused["usage"]["buckets"].as_array().unwrap().len(), 25);

    verify(&app, &revoked, 3, "VALID").await;
    app.clock.advance(Duration::from_hours(1));
    operator.revoke_key(id).await;
    let current = operator.generate_key(id).await;
    verify(&app, &revoked, 2, "REVOKED").await;
    verify(&app, &current, 4, "VALID").await;
    app.service.flush_usage().await.unwrap();

    // The clock began at 22:13:20.
    let (from, to) = ("2023-11-14T22:20:00Z", "2023-11-14T23:00:01+00:00");
    let system = shown(&operator, json!({ "id": id, "from": from, "to": to })).await;
    let mark = &revoked.system.key_mark;
    assert_eq!(
        system,
        json!({
            "lastUsedAt": "2023-11-14T23:13:20.000Z",
            "usage": { "accepted": 7, "refused": 2, "countedUntil": "2023-11-14T23:13:20.000Z", "buckets": [
                { "from": "2023-11-14T22:00:00.000Z", "accepted": 3, "refused": 0 },
                { "from": "2023-11-14T23:00:00.000Z", "accepted": 4, "refused": 2 },
            ] },
            "currentKey": {
                "mark": current.system.key_mark, "lastUsedAt": "2023-11-14T23:13:20.000Z",
                "usage": { "accepted": 4, "refused": 0 },
            },
            "retiringKey": null,
            "lastKey": { "mark": mark, "lastRefusedAt": "2023-11-14T23:13:20.000Z", "refusals": 2 },
        })
    );
    let days = shown(&operator, json!({ "id": id, "by": "DAY" })).await;
    let buckets = days["usage"]["buckets"].as_array().unwrap();
    assert_eq!((buckets.len(), &buckets[30]["accepted"]), (31, &json!(7)));
}

async fn a_range_beyond_the_bounds_is_refused(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    for (by, from, to, bound) in [
        ("HOUR", "2023-11-05T00:00:00Z", "2023-11-14T00:00:00Z", "at most 8 days"),
        ("HOUR", "2023-11-05T00:00:00Z", "2023-11-06T00:00:00Z", "kept for 8 days"),
        ("DAY", "2022-01-01T00:00:00Z", "2023-11-14T00:00:00Z", "at most 400 days"),
        ("DAY", "2022-01-01T00:00:00Z", "2022-01-02T00:00:00Z", "kept for 400 days"),
        ("DAY", "2023-11-10T00:00:00Z", "2023-11-10T00:00:00Z", "before `to`"),
        ("DAY", "2023-12-10T00:00:00Z", "2023-12-11T00:00:00Z", "in the past"),
    ] {
        let answer = operator.query(USE, json!({ "id": system.id, "by": by, "from": from, "to": to })).await;
        assert_eq!(answer.code(), Some("BAD_USER_INPUT"), "{by} {from} {to}");
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(bound), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_uses_of_a_page_are_one_read() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&ALL).await;
    let mut keys = Vec::new();
    for n in 0..100 {
        keys.push(key(&operator, &format!("System {n}")).await);
    }
    app.wait_for_cache().await;
    verify(&app, &keys[7], 1, "VALID").await;
    app.service.flush_usage().await.unwrap();

    let page = "{ systems(first: 100) { nodes { lastUsedAt currentKey { lastUsedAt } lastKey { refusals } }
        edges { node { lastUsedAt } } } }";
    let page = operator.query(page, json!({})).await;
    let used = page.data("systems.nodes").as_array().unwrap().iter().filter(|node| !node["lastUsedAt"].is_null());
    assert_eq!(used.count(), 1);
    assert_eq!(switch.calls(&["find_usage_summaries"]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_with_too_many_series_is_refused() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let page = |size: u32, fields: &str| format!("{{ systems(first: {size}) {{ nodes {{ usage {{ {fields} }} }} }} }}");
    for (document, code) in [
        (page(200, "accepted refused"), None),
        (page(200, "accepted } of_a_day: usage(resolution: DAY) { accepted"), Some("QUERY_TOO_COMPLEX")),
        (page(50, "buckets { from accepted refused }"), None),
        (page(70, "buckets { from accepted refused }"), Some("QUERY_TOO_COMPLEX")),
    ] {
        assert_eq!(operator.query(&document, json!({})).await.code(), code, "{document}");
    }
}

const USE_CHANGES: &str = "subscription ($id: ID!) { usageChanged(systemId: $id) {
    id lastUsedAt currentKey { lastUsedAt } usage { accepted } } }";

async fn subscribers_receive_the_system_after_flushes_of_any_instance(app: App) {
    let operator = app.operator(&ALL).await;
    let (used, other) = (key(&operator, "Billing").await, key(&operator, "Payroll").await);
    let switch = Switch::default();
    let second = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    for app in [&app, &second] {
        app.wait_for_cache().await;
    }
    verify(&app, &used, 1, "VALID").await;
    app.service.flush_usage().await.unwrap();
    let at_second = operator.at(&second);
    let mut live = at_second.subscribe(USE_CHANGES, json!({ "id": used.system.id })).await;
    let mut also = at_second.subscribe(USE_CHANGES, json!({ "id": used.system.id })).await;
    // Each subscription has begun once it has read what it begins with.
    switch.wait_for_calls("find_usage_summaries", 1).await;
    let subscribed = "keymark_subscribers 2";
    second
        .wait_until(async || {
            second.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text.contains(subscribed)
        })
        .await;
    let before = switch.calls(&["find_usage_summaries"]);
    second.service.notify_usage().await.unwrap();
    assert_eq!(switch.calls(&["find_usage_summaries"]), before + 1, "one read for all subscribers");

    app.clock.advance(Duration::from_secs(1));
    verify(&app, &other, 1, "VALID").await;
    verify(&app, &used, 4, "VALID").await;
    app.service.flush_usage().await.unwrap();
    second.service.notify_usage().await.unwrap();
    for live in [&mut live, &mut also] {
        let at = "2023-11-14T22:13:21.000Z";
        let expected = json!({ "id": used.system.id, "lastUsedAt": at, "currentKey": { "lastUsedAt": at },
            "usage": { "accepted": 5 } });
        assert_eq!(live.next().await, expected, "only the change since the subscription");
    }
    app.clock.advance(Duration::from_secs(1));
    second.service.notify_usage().await.unwrap();
    verify(&second, &used, 1, "VALID").await;
    second.service.flush_usage().await.unwrap();
    second.service.notify_usage().await.unwrap();
    assert_eq!(live.next().await["usage"]["accepted"], 6, "no event without a flush");

    operator.may(&["edit"]).await;
    assert_eq!(live.event().await, Event::Error("FORBIDDEN".to_owned()), "it ends with the permission");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscription_to_use_requires_the_permission_to_view() {
    let app = App::embedded().await;
    let id = app.operator(&ALL).await.create_system("Billing").await.id;
    let operator = app.operator(&["create", "edit", "delete"]).await;
    let mut refused = operator.subscribe(USE_CHANGES, json!({ "id": id })).await;
    assert_eq!(refused.event().await, Event::Error("FORBIDDEN".to_owned()));
}

async fn use_of_another_tenant_is_no_event(app: App) {
    let (ours, theirs) = (app.operator_of("acme", &ALL).await, app.operator_of("theirs", &ALL).await);
    let (key_of_ours, key_of_theirs) = (key(&ours, "Billing").await, key(&theirs, "Billing").await);
    app.wait_for_cache().await;
    let mut foreign = theirs.subscribe(USE_CHANGES, json!({ "id": key_of_ours.system.id })).await;
    let mut malformed = theirs.subscribe(USE_CHANGES, json!({ "id": "nothing" })).await;
    let mut own = theirs.subscribe(USE_CHANGES, json!({ "id": key_of_theirs.system.id })).await;
    for live in [&mut foreign, &mut malformed] {
        assert_eq!(live.event().await, Event::Error("NOT_FOUND".to_owned()));
    }
    app.wait_until(async || {
        app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text.contains("keymark_subscribers 1")
    })
    .await;
    for key in [&key_of_ours, &key_of_theirs] {
        verify(&app, key, 1, "VALID").await;
    }
    app.service.flush_usage().await.unwrap();
    app.service.notify_usage().await.unwrap();

    assert_eq!(own.next().await["id"], key_of_theirs.system.id);
}

/// What the API shows of the system: accepted and refused.
async fn counted_by(server: &Server, token: &str, id: &str) -> (u64, u64) {
    let document = "query ($id: ID!) { system(id: $id) { usage { accepted refused } } }";
    let answer = server.graphql(Some(token), document, json!({ "id": id })).await;
    let usage = answer.pointer("/data/system/usage").unwrap_or_else(|| panic!("{answer}"));
    (usage["accepted"].as_u64().unwrap(), usage["refused"].as_u64().unwrap())
}

#[tokio::test]
async fn a_stopped_server_loses_no_use_and_a_killed_one_no_more_than_it_had_not_written() {
    let directory = directory();
    let password = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "correct horse battery staple")];
    let server = Server::start_with(directory.path(), &password, &[]).await;
    let token = server.sign_in("admin", password[0].1).await;
    let create = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    let created = server.graphql(Some(&token), create, json!({})).await;
    let id = created.pointer("/data/createSystem/system/id").and_then(Json::as_str).unwrap().to_owned();
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let generated = server.graphql(Some(&token), generate, json!({ "id": id })).await;
    let api_key = generated.pointer("/data/generateKey/apiKey").and_then(Json::as_str).unwrap().to_owned();
    for _ in 0..30 {
        assert_eq!(server.verdict(&api_key).await, "VALID");
    }
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");

    let server = Server::start(directory.path()).await;
    let token = server.sign_in("admin", password[0].1).await;
    assert_eq!(counted_by(&server, &token, &id).await, (30, 0));
    let suspend = "mutation ($id: ID!) { suspendSystem(id: $id) { system { id } } }";
    server.graphql(Some(&token), suspend, json!({ "id": id })).await;
    for _ in 0..20 {
        assert_eq!(server.verdict(&api_key).await, "SUSPENDED");
    }
    server.kill().await;

    let server = Server::start(directory.path()).await;
    let token = server.sign_in("admin", password[0].1).await;
    let (accepted, refused) = counted_by(&server, &token, &id).await;
    assert_eq!(accepted, 30, "what was written stays");
    assert!(refused <= 20, "{refused}");
}
