//! Replacing the root secret: keys are digested anew as they are used, and a secret that keys need cannot be dropped.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::support::actors::{ALL, App, Generated, Operator, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;
use crate::support::process::{Server, directory, run};

const NEW_SECRET: &str = "another root secret, which replaces the first one";

/// The setup of an instance after the root secret was replaced.
fn replaced() -> Setup {
    Setup { secret: NEW_SECRET, previous_secrets: &[SECRET], ..Setup::default() }
}

async fn key(operator: &Operator<'_>, name: &str) -> Generated {
    operator.generate_key(&operator.create_system(name).await.id).await
}

/// The number of keys that name each secret, as the metrics report them: of those that name one, and of all.
async fn counts(app: &App) -> Vec<f64> {
    let text = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let lines = text.lines().filter_map(|line| line.strip_prefix("keymark_keys_by_secret{"));
    let mut counts: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    counts.retain(|count| *count > 0.0);
    counts
}

on_both_stores![
    keys_are_digested_anew_in_one_change_as_they_are_used,
    key_that_changes_meanwhile_is_not_digested_anew,
    both_keys_of_a_rotation_are_digested_anew_and_can_be_revoked,
    change_of_a_system_does_not_bring_an_old_digest_back,
];

async fn keys_are_digested_anew_in_one_change_as_they_are_used(first: App) {
    let operator = first.operator(&ALL).await;
    let keys = [key(&operator, "Billing").await, key(&operator, "Other").await];
    let unused = key(&operator, "Unused").await;
    let app = first.instance_with(2, replaced()).await;
    let third = first.instance_with(3, replaced()).await;
    app.wait_for_cache().await;
    third.wait_for_cache().await;
    assert_eq!(app.service.redigest_keys().await.unwrap(), 0);
    for _ in 0..2 {
        for key in &keys {
            assert_eq!(app.verifier().code(&key.api_key).await, "VALID");
        }
    }
    let before = operator.find_system(&keys[0].system.id).await.unwrap();
    assert_eq!(app.service.redigest_keys().await.unwrap(), 2);
    assert_eq!(app.service.redigest_keys().await.unwrap(), 0);

    let log = app.log_of("acme").await;
    let entries: Vec<_> = log.iter().filter(|entry| entry["event"]["action"] == "KEYS_REDIGESTED").collect();
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["event"]["count"], &entries[0]["event"]["actor"]["kind"]), (&json!(2), &json!("SYSTEM")));
    assert_eq!(operator.find_system(&keys[0].system.id).await.unwrap(), before, "nothing that people see changed");
    for instance in [&app, &third] {
        instance.wait_until(async || counts(instance).await == [1.0, 2.0]).await;
        for key in keys.iter().chain([&unused]) {
            assert_eq!(instance.verifier().code(&key.api_key).await, "VALID");
        }
    }
    let operator = operator.at(&app);
    operator.rename_system(&keys[0].system.id, "Renamed").await;
    operator.revoke_key(&keys[0].system.id).await;
    operator.delete_system(&keys[1].system.id).await;
    for key in &keys {
        assert_eq!(third.verifier().code(&key.api_key).await, "REVOKED");
    }
}

async fn key_that_changes_meanwhile_is_not_digested_anew(first: App) {
    let operator = first.operator(&ALL).await;
    let keys = [key(&operator, "Revoked").await, key(&operator, "Renamed").await];
    let app = first.instance_with(2, replaced()).await;
    app.wait_for_cache().await;
    for key in &keys {
        assert_eq!(app.verifier().code(&key.api_key).await, "VALID");
    }
    operator.at(&app).revoke_key(&keys[0].system.id).await;
    operator.at(&app).rename_system(&keys[1].system.id, "Anew").await;
    assert_eq!(app.service.redigest_keys().await.unwrap(), 1);
    assert_eq!(app.verifier().code(&keys[0].api_key).await, "REVOKED");
    assert_eq!(app.verifier().code(&keys[1].api_key).await, "VALID");
}

/// A system during a rotation, with its current and its retiring key.
async fn rotated(operator: &Operator<'_>) -> (String, [String; 2]) {
    const ROTATE: &str = "mutation ($id: ID!) { rotateKey(systemId: $id, overlapSeconds: 3600) { apiKey } }";
    let retiring = key(operator, "Billing").await;
    let rotated = operator.query(ROTATE, json!({ "id": retiring.system.id })).await;
    let current = rotated.data("rotateKey.apiKey").as_str().expect("a key").to_owned();
    (retiring.system.id, [current, retiring.api_key])
}

async fn both_keys_of_a_rotation_are_digested_anew_and_can_be_revoked(first: App) {
    let operator = first.operator(&ALL).await;
    let (id, keys) = rotated(&operator).await;
    let app = first.instance_with(2, replaced()).await;
    app.wait_for_cache().await;
    for key in &keys {
        assert_eq!(app.verifier().code(key).await, "VALID");
    }
    assert_eq!(app.service.redigest_keys().await.unwrap(), 2);
    app.wait_until(async || counts(&app).await == [2.0]).await;
    for key in &keys {
        assert_eq!(app.verifier().code(key).await, "VALID");
    }
    let operator = operator.at(&app);
    operator.rename_system(&id, "Renamed").await;
    operator.revoke_key(&id).await;
    for key in &keys {
        assert_eq!(app.verifier().code(key).await, "REVOKED");
    }
}

/// Describes a system while one instance digests its current key anew, and another one its retiring key.
async fn change_of_a_system_does_not_bring_an_old_digest_back(first: App) {
    let operator = first.operator(&ALL).await;
    let (id, keys) = rotated(&operator).await;
    let (describing, digesting) = (Switch::default(), Switch::default());
    let app = first.instance_with(2, Setup { switch: Some(describing.clone()), ..replaced() }).await;
    let second = Arc::new(first.instance_with(3, Setup { switch: Some(digesting.clone()), ..replaced() }).await);
    let third = Arc::new(first.instance_with(4, replaced()).await);
    for (app, key) in [(&second, &keys[0]), (&third, &keys[1])] {
        app.wait_for_cache().await;
        assert_eq!(app.verifier().code(key).await, "VALID");
    }
    let digest = async |app: &Arc<App>| assert_eq!(app.service.redigest_keys().await.unwrap(), 1);
    digesting.after("find_system", {
        let third = Arc::clone(&third);
        async move { digest(&third).await }
    });
    describing.after("find_system", {
        let second = Arc::clone(&second);
        async move { digest(&second).await }
    });

    let operator = operator.at(&app);
    let describe =
        "mutation ($id: ID!) { describeSystem(id: $id, description: \"Invoices\") { system { description } } }";
    let described = operator.query(describe, json!({ "id": id })).await;
    assert_eq!(described.data("describeSystem.system.description"), "Invoices");
    operator.revoke_key(&id).await;
    for key in &keys {
        assert_eq!(app.verifier().code(key).await, "REVOKED");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_that_keys_need_is_not_dropped_by_accident() {
    const NEW: &str = "another root secret of more than 32 bytes";
    const OLD: &str = "a root secret of more than 32 bytes without a comma";
    let directory = directory();
    let start = async |secret: &str, previous: &str, arguments: &[&str]| {
        let mut variables = vec![("KEYMARK_SECRET", secret)];
        if !previous.is_empty() {
            variables.push(("KEYMARK_PREVIOUS_SECRETS", previous));
        }
        Server::start_with(directory.path(), &variables, arguments).await
    };
    let server = start(OLD, "", &[]).await;
    let token = server.sign_in("admin", server.announced("Password").expect("a password")).await;
    let create = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    let system = server.graphql(Some(&token), create, json!({})).await["data"]["createSystem"]["system"]["id"].clone();
    let generate = "mutation ($i: ID!) { generateKey(systemId: $i) { apiKey } }";
    let generated = server.graphql(Some(&token), generate, json!({ "i": system })).await;
    let key = generated["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned();
    assert!(server.stop().await.0.success());
    // Not verified here, or the server could digest the key anew before it stops.
    let server = start(NEW, OLD, &[]).await;
    assert!(server.stop().await.0.success());

    let data = directory.path().to_str().unwrap();
    let given = [("KEYMARK_DATA_DIR", data), ("KEYMARK_SECRET", NEW), ("KEYMARK_PREVIOUS_SECRETS", OLD)];
    let doctor = ["doctor", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
    let (code, printed, _) = run(&given, &doctor).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("0 keys need the current secret") && printed.contains("1 keys need the previous secret"));
    let variables = [("KEYMARK_DATA_DIR", data), ("KEYMARK_SECRET", NEW)];
    let (code, _, said) =
        run(&variables, &["serve", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"]).await;
    assert_eq!((code, said.lines().count()), (2, 1), "{said}");
    assert!(said.starts_with("keymark: KEYMARK_PREVIOUS_SECRETS: 1 API keys"), "{said}");
    let (code, printed, _) = run(&variables, &doctor).await;
    assert_eq!(code, 1);
    assert!(printed.contains("failed   store: KEYMARK_PREVIOUS_SECRETS: 1 API keys"), "{printed}");

    let server = start(NEW, "", &["--drop-keys-of-old-secrets"]).await;
    assert_eq!(server.verdict(&key).await, "NOT_FOUND");
    assert!(server.stop().await.0.success());
    let server = start(NEW, "", &[]).await;
    assert!(server.stop().await.0.success());
}
