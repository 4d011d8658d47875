//! Metrics, and their use in the dashboard and the alerting rules.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use http::Method;
use keymark::clock::Environment;
use keymark::domain::time::Timestamp;
use keymark::metrics::Metrics;
use serde_json::{Value as Json, json};

use crate::support::actors::App;

fn document(path: &str) -> String {
    fs::read_to_string(format!("{}/docs/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a document")
}

/// The names of Keymark's metrics in `text`, without the suffixes of their types.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("keymark_"));
    ours.map(|word| {
        let ends = ["_total", "_bucket", "_count", "_sum", "_info"];
        let end = ends.into_iter().find(|end| word.ends_with(end)).unwrap_or_default();
        word.trim_end_matches(end).to_owned()
    })
    .collect()
}

/// The metrics of an app that has done some of each operation.
async fn measured() -> String {
    let app = App::mongodb().await;
    let operator = app.operator(&["view", "create", "edit"]).await;
    let system = operator.create_system("Measured").await;
    let key = operator.generate_key(&system.id).await;
    assert_eq!(app.verifier().verify(&key.api_key).await.body["valid"], true);
    let revoke = "mutation ($id: ID!) { revokeKey(systemId: $id) { enforcement { state } } }";
    assert_eq!(
        operator.query(revoke, json!({ "id": system.id })).await.data("revokeKey.enforcement.state"),
        "ENFORCED"
    );
    operator.rename_system(&system.id, "Measured anew").await;
    let taken = operator.query("mutation { createSystem(name: \"Measured anew\") { system { id } } }", json!({})).await;
    assert_eq!(taken.code(), Some("NAME_TAKEN"));
    let text = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    // Those of TLS are there if a listener has it.
    let with_tls = Metrics::default();
    with_tls.tls("public");
    text + &with_tls.encode()
}

#[tokio::test]
async fn the_documented_metrics_are_those_that_exist() {
    let measured = metrics_in(&measured().await);
    let operations = document("operations.md");
    assert_eq!(metrics_in(&operations), measured);
}

#[tokio::test]
async fn the_dashboard_and_the_rules_use_existing_metrics() {
    let measured = metrics_in(&measured().await);
    let dashboard: Json = serde_json::from_str(&document("monitoring/grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.iter().all(|panel| panel["title"].is_string() && panel["targets"][0]["expr"].is_string()));
    let shown = metrics_in(&dashboard.to_string());
    let alerted = metrics_in(&document("monitoring/alerts.yml"));
    assert!(shown.is_subset(&measured), "{:?}", shown.difference(&measured));
    assert!(alerted.is_subset(&measured), "{:?}", alerted.difference(&measured));
    assert_eq!(shown, measured, "the dashboard shows them all");
}

#[test]
fn prometheus_accepts_the_rules() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring/alerts.yml");
    let checked = Command::new("promtool").args(["check", "rules", rules]).stderr(Stdio::piped()).output();
    let checked = checked.expect("scripts/need.sh installs promtool");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn open_subscriptions_are_counted() {
    let app = App::embedded().await;
    let operator = app.operator(&["view", "create"]).await;
    let counted = async |expected: &str| {
        let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
        assert!(metrics.lines().any(|line| line == format!("keymark_subscribers {expected}")), "{metrics}");
    };
    counted("0").await;
    let after = operator.newest_cursor().await;
    let document = "subscription ($after: String) { systemChanged(after: $after) { kind } }";
    let mut subscription = operator.subscribe(document, json!({ "after": after })).await;
    operator.create_system("Billing").await;
    assert_eq!(subscription.next().await["kind"], "CREATED");
    counted("1").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn process_and_build_are_measured() {
    let metrics = measured().await;
    let value = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.trim().parse::<f64>().expect("a number")
    };
    assert!(value("process_resident_memory_bytes ") > 1e6);
    assert!(value("process_cpu_seconds_total ") > 0.0);
    assert!(value("process_max_fds ") >= value("process_open_fds "));
    let started = Timestamp::from_millis((value("process_start_time_seconds ") * 1000.0) as i64);
    let age = (Environment::system().now().as_millis() - started.as_millis()) / 1000;
    assert!((-2..86_400).contains(&age), "{age}");
    assert!(metrics.contains("keymark_build_info{version=\"0."), "{metrics}");
    assert!(metrics.contains("keymark_verification_seconds_count 1\n"), "{metrics}");
}
