//! Keys: generate and revoke.

use serde_json::json;

use crate::support::actors::{ALL, App, Operator};
use crate::support::on_both_stores;

on_both_stores![
    generated_key_is_valid_on_every_instance,
    revoked_key_is_refused_on_every_instance,
    system_has_at_most_one_key,
    one_of_50_concurrent_generates_on_two_instances_succeeds,
    one_of_20_concurrent_revocations_succeeds_and_writes_the_entry,
];

async fn generated_key_is_valid_on_every_instance(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await;
    for instance in [&app, &other] {
        assert_eq!(instance.verifier().code(&key.api_key).await, "VALID");
    }
    assert!(key.api_key.starts_with("km_") && key.api_key.len() == 52, "the promised shape");
    assert_eq!(key.system.key_mark.as_deref(), Some(&key.api_key[48..]));
    assert_eq!((key.system.key_state.as_str(), key.system.revision), ("ACTIVE", 2));
    assert_eq!(operator.find_system(&system.id).await, Some(key.system));
}

async fn revoked_key_is_refused_on_every_instance(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await;
    let revoked = operator.try_revoke_key(&system.id).await;
    for instance in [&other, &app] {
        assert_eq!(instance.verifier().code(&key.api_key).await, "REVOKED");
    }
    let enforcement = revoked.data("revokeKey.enforcement");
    assert_eq!((&enforcement["state"], &enforcement["enforcedNoLaterThan"]), (&json!("ENFORCED"), &json!(null)));
    let system = operator.find_system(&system.id).await.unwrap();
    assert_eq!((system.key_state.as_str(), system.key_mark, system.revision), ("NOT_GENERATED", None, 3));
}

async fn system_has_at_most_one_key(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let none = operator.try_revoke_key(&system.id).await;
    let first = operator.generate_key(&system.id).await;
    let second = operator.try_generate_key(&system.id).await;
    insta::allow_duplicates! { insta::assert_json_snapshot!([none.error(), second.error()], @r#"
    [
      {
        "extensions": {
          "code": "KEY_NOT_GENERATED"
        },
        "message": "The system has no key, so there is nothing to revoke."
      },
      {
        "extensions": {
          "code": "KEY_ALREADY_GENERATED"
        },
        "message": "The system already has a key. Revoke it before you generate a new one."
      }
    ]
    "#); }
    assert_eq!(app.verifier().code(&first.api_key).await, "VALID", "the first stays valid");

    operator.revoke_key(&system.id).await;
    assert_eq!(operator.try_revoke_key(&system.id).await.code(), Some("KEY_NOT_GENERATED"), "a repeat is safe");
    let next = operator.generate_key(&system.id).await;
    assert_eq!(app.verifier().code(&first.api_key).await, "REVOKED");
    assert_eq!(app.verifier().code(&next.api_key).await, "VALID");

    let log = app.log_of("acme").await;
    let changes = log
        .iter()
        .map(|entry| &entry["event"])
        .filter(|event| event["outcome"] == "DONE" && event["keyMark"].is_string());
    let changes: Vec<_> =
        changes.map(|event| (event["action"].as_str().unwrap(), event["keyMark"].as_str().unwrap())).collect();
    let (one, other) = (&first.api_key[48..], &next.api_key[48..]);
    assert_eq!(changes, [("KEY_GENERATED", one), ("KEY_REVOKED", one), ("KEY_GENERATED", other)]);
}

async fn one_of_50_concurrent_generates_on_two_instances_succeeds(app: App) {
    let (operator, other) = (app.operator(&ALL).await, app.instance(2).await);
    let beside = operator.at(&other);
    let system = operator.create_system("Billing").await;
    let generates = (0..50).map(|i| {
        let operator: &Operator<'_> = if i % 2 == 0 { &operator } else { &beside };
        operator.try_generate_key(&system.id)
    });
    let answers = futures::future::join_all(generates).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some("KEY_ALREADY_GENERATED")).count(), 49, "{codes:?}");
    let winner = answers.iter().find(|answer| answer.code().is_none()).expect("one succeeds");
    let key = winner.data("generateKey.apiKey").as_str().unwrap();
    assert_eq!(other.verifier().code(key).await, "VALID");
    assert_eq!(operator.find_system(&system.id).await.unwrap().revision, 2);
}

async fn one_of_20_concurrent_revocations_succeeds_and_writes_the_entry(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    operator.generate_key(&system.id).await;
    let answers = futures::future::join_all((0..20).map(|_| operator.try_revoke_key(&system.id))).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some("KEY_NOT_GENERATED")).count(), 19, "{codes:?}");
    let log = app.log_of("acme").await;
    assert_eq!(log.iter().filter(|entry| entry["event"]["action"] == "KEY_REVOKED").count(), 1);
}

#[tokio::test]
async fn verification_returns_the_new_name_after_a_rename() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await;
    operator.rename_system(&system.id, "Billing EU").await;
    assert_eq!(app.verifier().verify(&key.api_key).await.body["systemName"], "Billing EU");
}
