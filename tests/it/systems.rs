//! Systems: create, rename, delete and find, and each refusal.

use serde_json::json;

use crate::support::actors::{ALL, App, Operator, START};
use crate::support::on_both_stores;

on_both_stores![
    created_system_is_found_by_its_id_and_in_the_list,
    systems_of_a_list_are_as_each_is_by_its_id,
    name_is_unique_ignoring_case_and_width,
    rename_advances_revision_and_time_and_writes_one_entry,
    stale_edit_is_refused,
    deleted_system_frees_its_name_and_stays_in_the_audit_log,
    one_of_many_concurrent_creates_with_the_same_name_succeeds,
    one_of_two_concurrent_spellings_of_a_name_succeeds,
];

const NOBODY: &str = "sys_01HF7YAT00000000000000000X";

/// The actions in the tenant's log that concern systems and keys, oldest first.
async fn actions(app: &App) -> Vec<String> {
    let log = app.log_of("acme").await;
    let actions = log.iter().map(|entry| entry["event"]["action"].as_str().unwrap().to_owned());
    actions.filter(|action| action.starts_with("SYSTEM_") || action.starts_with("KEY_")).collect()
}

async fn created_system_is_found_by_its_id_and_in_the_list(app: App) {
    let operator = app.operator(&["view", "create"]).await;
    let system = operator.create_system("  Cafe\u{301} Billing ").await;
    assert_eq!((system.name.as_str(), system.revision), ("Café Billing", 1));
    assert_eq!((system.key_state.as_str(), &system.key_mark), ("NOT_GENERATED", &None));
    assert_eq!(
        (system.created_at.as_str(), system.updated_at.as_str()),
        ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.000Z")
    );
    assert_eq!(operator.find_system(&system.id).await, Some(system.clone()));
    let document = "query ($id: ID!) { node(id: $id) { __typename id } systems { nodes { id } totalCount } }";
    let answer = operator.query(document, json!({ "id": system.id })).await;
    assert_eq!(answer.data("node"), &json!({ "__typename": "System", "id": system.id }));
    assert_eq!(answer.data("systems"), &json!({ "nodes": [{ "id": system.id }], "totalCount": 1 }));
}

/// A list reads its rows without the resolvers if only leaf fields are selected.
async fn systems_of_a_list_are_as_each_is_by_its_id(app: App) {
    let operator = app.operator(&ALL).await;
    let fields = [
        "id name description externalId keyState keyMark suspendedAt suspendedReason revision createdAt updatedAt",
        "updatedAt id: name mark: keyMark __typename id: name",
        "keyState ...Parts revision",
        "... on Node { id } ... { name } ...Identified",
        "name @include(if: true) id",
        "name currentKey { mark } lastUsedAt",
    ];
    let parts = "fragment Parts on System { name description }";
    let identified = "fragment Identified on Node { id }";
    let create = "mutation { createSystem(name: \"Ærøskøbing \\\"1\\\"\", description: \"a\\nb\") { system { id } } }";
    let first = operator.query(create, json!({})).await;
    let first = first.data("createSystem.system.id").as_str().expect("an id").to_owned();
    let second = operator.create_system("Billing").await.id;
    let third = operator.create_system("Checkout").await.id;
    for id in [&second, &third] {
        operator.generate_key(id).await;
    }
    for change in ["suspendSystem(id: $id, reason: \"late\")", "setExternalId(systemId: $id, externalId: \"cus_1\")"] {
        let document = format!("mutation ($id: ID!) {{ {change} {{ __typename }} }}");
        let changed = operator.query(&document, json!({ "id": third })).await;
        assert_eq!(changed.code(), None);
    }
    for fields in fields {
        let fragments: String = [("...Parts", parts), ("...Identified", identified)]
            .into_iter()
            .filter(|(spread, _)| fields.contains(spread))
            .map(|(_, text)| text)
            .collect();
        let by_id = format!("query ($id: ID!) {{ system(id: $id) {{ {fields} }} }} {fragments}");
        let mut systems = Vec::new();
        // In the order of their names.
        for id in [&second, &third, &first] {
            let found = operator.query(&by_id, json!({ "id": id })).await.text;
            let found = found.strip_prefix(r#"{"data":{"system":"#).and_then(|text| text.strip_suffix("}}"));
            systems.push(found.expect("a system").to_owned());
        }
        let list = format!("{{ systems {{ nodes {{ {fields} }} }} }} {fragments}");
        let listed = operator.query(&list, json!({})).await.text;
        assert_eq!(listed, format!(r#"{{"data":{{"systems":{{"nodes":[{}]}}}}}}"#, systems.join(",")));
    }
}

#[tokio::test]
async fn invalid_name_is_refused_with_the_reason() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let mut refusals = Vec::new();
    for name in ["", "  ", "ab", &"x".repeat(65), &"é".repeat(129), "Pay\u{202e}roll", "Pay\u{200b}roll", "Pay\nroll"]
    {
        let (created, renamed) =
            (operator.try_create_system(name).await, operator.try_rename_system(&system.id, name, None).await);
        assert_eq!(created.error(), renamed.error(), "{name:?}");
        refusals.push(created.error());
    }
    insta::assert_json_snapshot!(refusals, @r#"
    [
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "A name is required."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "A name is required."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name is too short. Use at least 3 characters."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name is too long. Use at most 64 characters and 256 bytes."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name is too long. Use at most 64 characters and 256 bytes."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name contains U+202E. Remove control, bidirectional and invisible characters."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name contains U+200B. Remove control, bidirectional and invisible characters."
      },
      {
        "extensions": {
          "code": "INVALID_NAME"
        },
        "message": "The name contains U+000A. Remove control, bidirectional and invisible characters."
      }
    ]
    "#);
    assert_eq!(actions(&app).await, ["SYSTEM_CREATED"], "what is refused leaves no entry");
}

async fn name_is_unique_ignoring_case_and_width(app: App) {
    let operator = app.operator(&ALL).await;
    operator.create_system("Billing 5G ﬁle").await;
    let other = operator.create_system("Payroll").await;
    for name in ["Billing 5G ﬁle", "BILLING 5g FILE", "Ｂｉｌｌｉｎｇ ５Ｇ file", "  billing 5G file  "] {
        let (created, renamed) =
            (operator.try_create_system(name).await, operator.try_rename_system(&other.id, name, None).await);
        assert_eq!((created.code(), renamed.code()), (Some("NAME_TAKEN"), Some("NAME_TAKEN")), "{name}");
    }
    let taken = operator.try_create_system("billing 5g file").await.error();
    insta::allow_duplicates! { insta::assert_json_snapshot!(taken, @r#"
    {
      "extensions": {
        "code": "NAME_TAKEN"
      },
      "message": "Another system of your tenant has this name. Choose a different one."
    }
    "#); }
    assert_eq!(actions(&app).await, ["SYSTEM_CREATED", "SYSTEM_CREATED"]);
    app.operator_of("other", &["create"]).await.create_system("Billing 5G ﬁle").await;
}

async fn rename_advances_revision_and_time_and_writes_one_entry(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    app.clock.advance(std::time::Duration::from_secs(60));

    let same = operator.rename_system(&system.id, "Billing").await;
    assert_eq!(same, system, "the very same name changes nothing");
    let renamed = operator.rename_system(&system.id, "BILLING").await;
    assert_eq!((renamed.name.as_str(), renamed.revision), ("BILLING", 2));
    assert_eq!(
        (renamed.created_at.as_str(), renamed.updated_at.as_str()),
        ("2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z")
    );

    assert_eq!(actions(&app).await, ["SYSTEM_CREATED", "SYSTEM_RENAMED"]);
    let log = app.log_of("acme").await;
    let event = &log.last().unwrap()["event"];
    assert_eq!((&event["previousName"], &event["systemName"]), (&json!("Billing"), &json!("BILLING")));
    assert_eq!(event["image"]["revision"], 2);
}

async fn stale_edit_is_refused(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    operator.rename_system(&system.id, "Billing EU").await;
    let stale = operator.try_rename_system(&system.id, "Billing US", Some(1)).await;
    insta::allow_duplicates! { insta::assert_json_snapshot!(stale.error(), @r#"
    {
      "extensions": {
        "code": "CONFLICT",
        "revision": 2
      },
      "message": "Someone else changed this in the meantime. Load it again before you retry."
    }
    "#); }
    let negative =
        "mutation ($id: ID!) { renameSystem(id: $id, name: \"Other\", expectedRevision: -1) { system { id } } }";
    assert_eq!(operator.query(negative, json!({ "id": system.id })).await.code(), Some("CONFLICT"));
    let describe = "mutation ($id: ID!) { describeSystem(id: $id, description: \"Bills\", expectedRevision: 1) {
        system { id } } }";
    let stale = operator.query(describe, json!({ "id": system.id })).await;
    assert_eq!(stale.error()["extensions"], json!({ "code": "CONFLICT", "revision": 2 }));
    let theirs = app.operator_of("theirs", &ALL).await;
    let foreign = theirs.try_rename_system(&system.id, "Billing US", Some(1)).await;
    assert_eq!(foreign.error()["extensions"], json!({ "code": "NOT_FOUND" }));
    assert_eq!(operator.find_system(&system.id).await.unwrap().name, "Billing EU");
    let fresh = operator.try_rename_system(&system.id, "Billing US", Some(2)).await;
    assert_eq!(fresh.data("renameSystem.system.revision"), 3);
}

async fn deleted_system_frees_its_name_and_stays_in_the_audit_log(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await;
    operator.delete_system(&system.id).await;
    assert_eq!(operator.find_system(&system.id).await, None);
    assert_eq!(app.verifier().code(&key.api_key).await, "REVOKED");
    let gone = operator.try_delete_system(&system.id).await.error();
    insta::allow_duplicates! { insta::assert_json_snapshot!(gone, @r#"
    {
      "extensions": {
        "code": "NOT_FOUND"
      },
      "message": "Not found: your tenant has no system with this id. It may have been deleted."
    }
    "#); }
    let again = operator.create_system("BILLING").await;
    assert_ne!(again.id, system.id);

    assert_eq!(actions(&app).await, ["SYSTEM_CREATED", "KEY_GENERATED", "SYSTEM_DELETED", "SYSTEM_CREATED"]);
    let log = app.log_of("acme").await;
    let deleted = log.iter().find(|entry| entry["event"]["action"] == "SYSTEM_DELETED").unwrap();
    assert_eq!(deleted["event"]["systemName"], "Billing");
    assert_eq!(deleted["event"]["keyMark"], json!(key.system.key_mark));
    assert_eq!(deleted["event"].get("image"), None);
}

#[tokio::test]
async fn audit_entry_has_actor_source_address_and_request_id() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let from_afar = (*operator).clone().from("192.0.2.7");
    let answer = from_afar.query("mutation { createSystem(name: \"Billing\") { system { id } } }", json!({})).await;
    let request = answer.header("x-request-id").expect("an id").to_owned();
    let document = "{ viewer { id } auditLog(first: 1) { nodes {
        number occurredAt actor { kind id name } action outcome systemId systemName keyMark previousName errorCode count
        sourceAddress requestId hash } } }";
    let told = operator.query(document, json!({})).await;
    let entry = told.data("auditLog.nodes.0");
    assert_eq!(entry["actor"]["id"], *told.data("viewer.id"));
    assert_eq!(entry["actor"]["name"], operator.username.as_str());
    assert_eq!(entry["systemId"], *answer.data("createSystem.system.id"));
    assert_eq!(entry["requestId"], request.as_str());
    assert_eq!(entry["occurredAt"], START.to_string());
    let hash = entry["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    insta::assert_json_snapshot!(entry, {
        ".actor.id" => "[id]", ".actor.name" => "[username]", ".systemId" => "[id]", ".requestId" => "[id]",
        ".hash" => "[hash]",
    }, @r#"
    {
      "action": "SYSTEM_CREATED",
      "actor": {
        "id": "[id]",
        "kind": "OPERATOR",
        "name": "[username]"
      },
      "count": 1,
      "errorCode": null,
      "hash": "[hash]",
      "keyMark": null,
      "number": 3,
      "occurredAt": "2023-11-14T22:13:20.000Z",
      "outcome": "DONE",
      "previousName": null,
      "requestId": "[id]",
      "sourceAddress": "192.0.2.7",
      "systemId": "[id]",
      "systemName": "Billing"
    }
    "#);
}

async fn one_of_many_concurrent_creates_with_the_same_name_succeeds(app: App) {
    let (operator, other) = (app.operator(&ALL).await, app.instance(2).await);
    let beside = operator.at(&other);
    let creates = (0..20).map(|i| {
        let operator: &Operator<'_> = if i % 2 == 0 { &operator } else { &beside };
        operator.try_create_system(if i % 3 == 0 { "billing" } else { "BILLING" })
    });
    let answers = futures::future::join_all(creates).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.code()).collect();
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some("NAME_TAKEN")).count(), 19, "{codes:?}");
    assert_eq!(actions(&app).await, ["SYSTEM_CREATED"]);
}

/// Two spellings, and whether they are the same name.
const SPELLINGS: [(&str, &str, &str, bool); 12] = [
    ("case", "billing", "BILLING", true),
    ("full width", "Ｐａｙｍｅｎｔｓ", "Payments", true),
    ("ligature", "ﬁle oﬃce", "FILE OFFICE", true),
    ("long s", "ſyſtem", "System", true),
    ("sharp s", "Straße", "STRASSE", true),
    ("capital sharp s", "STRAẞE eins", "strasse EINS", true),
    ("composed", "Caf\u{e9}", "CAFE\u{301}", true),
    ("dotted capital I", "\u{130}zmir", "i\u{307}zmir", true),
    ("dotted capital I and plain i", "\u{130}stanbul", "istanbul", false),
    ("dotless i", "\u{131}rmak", "irmak", false),
    ("final sigma", "ΟΔΟΣ", "οδος", true),
    ("another script", "А\u{430}\u{430}", "Aaa", false),
];

async fn one_of_two_concurrent_spellings_of_a_name_succeeds(app: App) {
    let (operator, other) = (app.operator(&ALL).await, app.instance(2).await);
    let beside = operator.at(&other);
    for (what, one, another, same) in SPELLINGS {
        let (one, another) = tokio::join!(operator.try_create_system(one), beside.try_create_system(another));
        let mut codes = [one.code(), another.code()];
        codes.sort();
        assert_eq!(codes, [None, same.then_some("NAME_TAKEN")], "{what}");
    }
    // Neither is a way to a second name: the right-to-left override, and joiners.
    for hidden in ['\u{202e}', '\u{202d}', '\u{2067}', '\u{200d}', '\u{200c}', '\u{200b}', '\u{feff}'] {
        let name = format!("bil{hidden}ling");
        let (one, another) = tokio::join!(operator.try_create_system(&name), beside.try_create_system(&name));
        assert_eq!([one.code(), another.code()], [Some("INVALID_NAME"); 2], "U+{:04X}", u32::from(hidden));
    }
}

#[tokio::test]
async fn unknown_id_is_not_found() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    for id in [NOBODY, "", "sys_", "sys_!", "aud_01HF7YAT00000000000000000X", "x".repeat(1000).as_str()] {
        assert_eq!(operator.find_system(id).await, None);
        for answer in [
            operator.try_rename_system(id, "Billing", None).await,
            operator.try_delete_system(id).await,
            operator.try_generate_key(id).await,
            operator.try_revoke_key(id).await,
        ] {
            assert_eq!(answer.code(), Some("NOT_FOUND"), "{id}");
        }
    }
}
