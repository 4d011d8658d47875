//! Stores that release 0.1.0 wrote, in `tests/fixtures/0.1.0`: they open, are brought up to date, and lose nothing.
//!
//! Each has the operator `admin` of the tenant `default` and three systems: one with a key, renamed since; one whose key was
//! revoked; and one without a key. The MongoDB database is in canonical Extended JSON, without leases.

use keymark::domain::audit::{AuditFilter, AuditOutcome};
use keymark::domain::time::Timestamp;
use serde_json::json;

use crate::support::actors::{App, PASSWORD};

struct Fixture {
    /// The key of the first system, and the revoked one.
    keys: [&'static str; 2],
    systems: [&'static str; 3],
}

const EMBEDDED: Fixture = Fixture {
    keys: [
        "km_CfAu6XlqB0mhV3gftNFyAOAG7Txu2OuzyOEbohatXrU4FKugq",
        "km_k5vqlcGiE94f6FqoLOZMaKmhrc8tW5WFtp2Yuq1sBQF1q2klW",
    ],
    systems: ["sys_01m8f937m76ky2ydcaj2r900ch", "sys_01m8f937mcvr718q2vds9rpvdz", "sys_01m8f937mjm6a6tf5vrmjksat7"],
};
const MONGODB: Fixture = Fixture {
    keys: [
        "km_H1Ucgv6N4JbGWGIJ8zUdZc0zwMsrJHhND62vnRumaDz0i3MUh",
        "km_83rDqntgsHetV604wAa9G3Q6l0lglFn3B3kiHPGaj1X3DTyLa",
    ],
    systems: ["sys_01m8f943qqdbx5pcxwe1z9am2e", "sys_01m8f943qwzvjhdytakmp2tsbx", "sys_01m8f943r0a5zr7jf85e2p0qq9"],
};

#[tokio::test]
async fn embedded_store_of_the_first_release_is_brought_up_to_date() {
    is_brought_up_to_date(App::embedded_of_first_release().await, EMBEDDED).await;
}

#[tokio::test]
async fn database_of_the_first_release_is_brought_up_to_date() {
    is_brought_up_to_date(App::mongodb_of_first_release().await, MONGODB).await;
}

async fn is_brought_up_to_date(app: App, fixture: Fixture) {
    let Fixture { keys: [good, revoked], systems } = fixture;
    assert_eq!(app.verifier().code(good).await, "VALID");
    assert_eq!(app.verifier().code(revoked).await, "REVOKED");
    let tenant = app.store.find_tenant(&"default".parse().unwrap()).await.unwrap().expect("a row");
    assert_eq!((tenant.name.as_str(), tenant.revision, tenant.suspended_at()), ("default", 1, None));
    assert_eq!(app.store.list_all_tenants().await.unwrap(), [tenant]);
    let operator = app.sign_in("admin", PASSWORD).await;
    let document = "{ systems { nodes { id name keyState keyMark revision retiringKey { mark } lastKey { mark }
        suspendedAt description currentKey { role mark generatedAt generatedBy { kind name } expiresAt } } } }";
    let listed = operator.query(document, json!({})).await;
    let nodes = listed.data("systems.nodes").as_array().expect("a list");
    let ids: Vec<_> = nodes.iter().map(|node| node["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, systems);
    let log = app.log_of("default").await;
    let generation = log
        .iter()
        .map(|entry| &entry["event"])
        .find(|event| event["action"] == "KEY_GENERATED" && event["system"] == systems[0]);
    let generated_at = generation.expect("in the log")["occurredAt"].as_i64().expect("a time");
    let generated_at = keymark::domain::time::Timestamp::from_millis(generated_at).to_string();
    let (none, mark) = (json!(null), &good[good.len() - 4..]);
    assert_eq!(
        nodes[0],
        json!({ "id": systems[0], "name": "Billing EU", "keyState": "ACTIVE", "keyMark": mark, "revision": 3,
            "retiringKey": none, "lastKey": none, "suspendedAt": none, "description": none,
            "currentKey": { "role": "CURRENT", "mark": mark, "generatedAt": generated_at,
                "generatedBy": { "kind": "OPERATOR", "name": "admin" }, "expiresAt": none } })
    );
    assert_eq!((&nodes[1]["keyState"], &nodes[1]["currentKey"]), (&json!("NOT_GENERATED"), &none));

    let (id, all) = ("default".parse().unwrap(), log.len() as u64);
    let of_mark = AuditFilter { key_mark: Some(mark.to_owned().try_into().unwrap()), ..AuditFilter::default() };
    let with_mark = log.iter().filter(|entry| entry["event"]["keyMark"] == mark).count() as u64;
    assert!(with_mark > 0 && app.store.count_audit(&id, &of_mark).await.unwrap() == with_mark);
    let done = AuditFilter { outcome: Some(AuditOutcome::Done), ..AuditFilter::default() };
    let refused = AuditFilter { outcome: Some(AuditOutcome::Refused), ..AuditFilter::default() };
    let outcomes = [app.store.count_audit(&id, &done).await, app.store.count_audit(&id, &refused).await];
    assert_eq!(outcomes.map(Result::unwrap).iter().sum::<u64>(), all);
    let since = AuditFilter { from: Some(Timestamp::from_millis(0)), ..AuditFilter::default() };
    assert_eq!(app.store.count_audit(&id, &since).await.unwrap(), all);

    let rotate =
        "mutation ($id: ID!) { rotateKey(systemId: $id) { apiKey system { retiringKey { mark generatedAt } } } }";
    let rotated = operator.query(rotate, json!({ "id": systems[0] })).await;
    let new = rotated.data("rotateKey.apiKey").as_str().expect("a key");
    assert_eq!(rotated.data("rotateKey.system.retiringKey"), &json!({ "mark": mark, "generatedAt": generated_at }));
    for key in [good, new] {
        assert_eq!(app.verifier().code(key).await, "VALID");
    }
    let suspend = "mutation ($id: ID!) { suspendSystem(id: $id) { system { keyState } } }";
    operator.query(suspend, json!({ "id": systems[0] })).await.data("suspendSystem.system");
    assert_eq!(app.verifier().code(new).await, "SUSPENDED");
    let verified = app.command(keymark::admin::Command::VerifyAudit { tenant: None }).await.expect("intact");
    assert!(verified.starts_with("default: "), "{verified}");
}
