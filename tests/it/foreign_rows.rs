//! Rows that another client of the database wrote, rows that cannot be read, and rows in a newer format.

use http::{Method, StatusCode};
use keymark::coherence::protocol::Timing;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use serde_json::json;
use std::time::Duration;

use crate::support::actors::{ALL, App, Operator, Setup};
use crate::support::faulty::Switch;

const RENAME: &str = "mutation ($id: ID!) { renameSystem(id: $id, name: \"Renamed\") { system { name } } }";
const NAMES: &str = "{ systems(first: 1) { edges { node { name } cursor } pageInfo { hasNextPage } } }";

/// Two instances over one database, with caches that expire during no test.
struct Fleet {
    apps: [App; 2],
    switch: Switch,
}

impl Fleet {
    async fn start() -> Self {
        let switch = Switch::default();
        let setup = |switch: Option<Switch>| {
            let timing = Timing { lease: Duration::from_secs(300), probe_interval: Duration::from_millis(200) };
            Setup { timing, switch, ..Setup::default() }
        };
        let first = App::mongodb_with(setup(None)).await;
        let second = first.instance_with(2, setup(Some(switch.clone()))).await;
        let fleet = Self { apps: [first, second], switch };
        for app in &fleet.apps {
            app.wait_for_cache().await;
        }
        fleet
    }

    async fn collection(&self, name: &str) -> Collection<Document> {
        self.apps[0].database().await.collection(name)
    }

    /// Waits until each instance returns this code for the key.
    async fn wait_for_code(&self, key: &str, code: &str) {
        for app in &self.apps {
            app.wait_until(async || app.verifier().code(key).await == code).await;
        }
    }

    /// Whether each instance still uses the cache that it loaded first.
    fn keeps_its_caches(&self) -> bool {
        self.apps.iter().all(|app| app.coherence.read(|_| ()).is_some()) && self.switch.calls(&["scan_rows"]) == 1
    }
}

async fn key(operator: &Operator<'_>, name: &str) -> (String, String) {
    let system = operator.create_system(name).await.id;
    let key = operator.generate_key(&system).await.api_key;
    (system, key)
}

async fn metric(app: &App, name: &str) -> f64 {
    let text = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("keymark_{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_by_another_client_takes_effect_and_leaves_the_caches_loaded() {
    let fleet = Fleet::start().await;
    let operator = fleet.apps[0].operator(&ALL).await;
    let ((system, key), (_, other)) = (key(&operator, "Billing").await, key(&operator, "Other").await);
    let keys = fleet.collection("keys").await;
    for (revoked_at, code) in [(Some(1_700_000_000_000_i64), "REVOKED"), (None, "VALID")] {
        keys.update_one(doc! { "system": &system }, doc! { "$set": { "revokedAt": revoked_at } }).await.unwrap();
        fleet.wait_for_code(&key, code).await;
        fleet.wait_for_code(&other, "VALID").await;
    }
    let operators = fleet.collection("operators").await;
    operators.update_one(doc! {}, doc! { "$set": { "permissions": ["api_key_management:view"] } }).await.unwrap();
    for app in &fleet.apps {
        let operator = operator.at(app);
        app.wait_until(async || operator.try_create_system("Third").await.code() == Some("FORBIDDEN")).await;
    }
    assert!(fleet.keeps_its_caches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_key_is_refused_alone_until_it_is_repaired() {
    let fleet = Fleet::start().await;
    let operator = fleet.apps[0].operator(&ALL).await;
    let ((system, broken), (_, good)) = (key(&operator, "Billing").await, key(&operator, "Other").await);
    let keys = fleet.collection("keys").await;
    let stored = keys.find_one(doc! { "system": &system }).await.unwrap().expect("it exists");
    keys.update_one(doc! { "system": &system }, doc! { "$set": { "mark": "much too long" } }).await.unwrap();

    fleet.wait_for_code(&broken, "UNAVAILABLE").await;
    let late = fleet.apps[0].instance(3).await;
    late.wait_for_cache().await;
    assert_eq!(late.anonymous().get("/readyz").await.status, StatusCode::OK);
    for app in fleet.apps.iter().chain([&late]) {
        assert_eq!(app.verifier().code(&good).await, "VALID");
        assert_eq!(app.verifier().verify(&broken).await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(metric(app, "unreadable_rows").await, 1.0);
    }

    keys.replace_one(doc! { "system": &system }, stored).await.unwrap();
    fleet.wait_for_code(&broken, "VALID").await;
    for app in &fleet.apps {
        app.wait_until(async || metric(app, "unreadable_rows").await == 0.0).await;
    }
    assert!(fleet.keeps_its_caches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_operator_and_session_are_refused_alone() {
    let fleet = Fleet::start().await;
    let [ada, ben, cleo] =
        [fleet.apps[0].operator(&ALL).await, fleet.apps[0].operator(&ALL).await, fleet.apps[0].operator(&ALL).await];
    fleet
        .collection("operators")
        .await
        .update_one(doc! { "username": &ada.username }, doc! { "$set": { "permissions": ["all"] } })
        .await
        .unwrap();
    let operators = fleet.collection("operators").await;
    let id = operators.find_one(doc! { "username": &ben.username }).await.unwrap().expect("it exists");
    let sessions = fleet.collection("sessions").await;
    let broken = doc! { "$set": { "tenant": "No tenant" } };
    sessions.update_one(doc! { "operator": id.get("_id") }, broken).await.unwrap();
    for app in &fleet.apps {
        for operator in [ada.at(app), ben.at(app)] {
            app.wait_until(async || operator.query(NAMES, json!({})).await.status != StatusCode::OK).await;
        }
        assert_eq!(cleo.at(app).query(NAMES, json!({})).await.code(), None);
        assert_eq!(metric(app, "unreadable_rows").await, 2.0);
    }
    assert!(fleet.keeps_its_caches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_system_is_left_out_of_lists() {
    let fleet = Fleet::start().await;
    let operator = fleet.apps[0].operator(&ALL).await;
    for name in ["Alpha", "Beta", "Gamma"] {
        operator.create_system(name).await;
    }
    let systems = fleet.collection("systems").await;
    systems.update_one(doc! { "name": "Alpha" }, doc! { "$set": { "key": {} } }).await.unwrap();
    let all = "{ systems { edges { node { name } } } }";
    let found = "{ systems(search: \"a\") { edges { node { name } } } }";
    for app in &fleet.apps {
        for document in [all, found] {
            let listed = operator.at(app).query(document, json!({})).await;
            assert_eq!(
                *listed.data("systems.edges"),
                json!([{ "node": { "name": "Beta" } }, { "node": { "name": "Gamma" } }])
            );
        }
        let first = operator.at(app).query(NAMES, json!({})).await;
        assert_eq!(*first.data("systems.pageInfo.hasNextPage"), json!(true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_system_does_not_hold_up_the_ends_of_other_keys() {
    const HOUR: Duration = Duration::from_hours(1);
    const GENERATE: &str =
        "mutation ($id: ID!, $end: DateTime) { generateKey(systemId: $id, expiresAt: $end) { apiKey } }";
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    for (name, end) in [("Unreadable", HOUR), ("Readable", 2 * HOUR)] {
        let id = operator.create_system(name).await.id;
        let end = app.service.environment().now().plus(end).to_string();
        operator.query(GENERATE, json!({ "id": id, "end": end })).await.data("generateKey.apiKey");
    }
    let systems = app.database().await.collection::<Document>("systems");
    systems.update_one(doc! { "name": "Unreadable" }, doc! { "$set": { "key": {} } }).await.unwrap();
    app.clock.advance(3 * HOUR);
    assert_eq!(app.service.write_due_keys().await.unwrap(), 1);
    let log = app.log_of("acme").await;
    let event = &log.last().expect("an entry")["event"];
    assert_eq!((&event["action"], &event["systemName"]), (&json!("KEY_EXPIRED"), &json!("Readable")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_bypass_their_caches_after_a_row_in_a_newer_format() {
    let fleet = Fleet::start().await;
    let operator = fleet.apps[0].operator(&ALL).await;
    let ((system, newer), (_, known)) = (key(&operator, "Billing").await, key(&operator, "Other").await);
    for (collection, member) in [("keys", "system"), ("systems", "_id")] {
        let collection = fleet.collection(collection).await;
        collection.update_one(doc! { member: &system }, doc! { "$set": { "format": 3 } }).await.unwrap();
    }
    let late = fleet.apps[0].instance(3).await;
    for app in fleet.apps.iter().chain([&late]) {
        app.wait_until(async || metric(app, "newer_format").await == 1.0).await;
        assert_eq!(metric(app, "memory_answers").await, 0.0);
        assert_eq!(app.verifier().code(&known).await, "VALID");
        assert_eq!(app.verifier().code(&newer).await, "UNAVAILABLE");
        let refused = operator.at(app).query(RENAME, json!({ "id": &system })).await;
        assert_eq!(refused.code(), Some("UNAVAILABLE"));
        assert!(refused.error()["message"].as_str().unwrap().contains("Upgrade this instance"));
    }
    assert_eq!(late.anonymous().get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let stored = fleet.collection("systems").await.find_one(doc! { "_id": &system }).await.unwrap();
    assert_eq!(stored.expect("it exists").get_str("name").unwrap(), "Billing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_bypass_their_caches_after_a_lease_in_a_newer_format() {
    let fleet = Fleet::start().await;
    let operator = fleet.apps[0].operator(&ALL).await;
    let (_, key) = key(&operator, "Billing").await;
    let lease = doc! { "_id": "0".repeat(32), "sequence": 1_i64, "applied": 1_i64, "asks": false, "format": 3 };
    fleet.collection("leases").await.insert_one(lease).await.unwrap();
    let late = fleet.apps[0].instance(3).await;
    for app in fleet.apps.iter().chain([&late]) {
        app.wait_until(async || metric(app, "newer_format").await == 1.0).await;
        assert_eq!(metric(app, "memory_answers").await, 0.0);
        assert_eq!(app.verifier().code(&key).await, "VALID");
    }
}
