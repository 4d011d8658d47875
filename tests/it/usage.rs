//! Use of keys: each verification of a known key counts once, whatever happens to the key, the cache and the store.

use std::time::Duration;

use http::Method;
use keymark::domain::ids::{SystemId, TenantId};
use keymark::domain::usage::{Counts, Resolution, UsageRange, UsageSummary};

use crate::support::actors::{ALL, App, Generated, Operator, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;

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
    let rotated = operator.query(rotate, serde_json::json!({ "id": old.system.id })).await;
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
