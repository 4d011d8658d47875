//! External ids of systems: set, unique, searched, looked up, and in verdicts.

use futures::future::join_all;
use serde_json::{Value as Json, json};

use crate::search::{found, load};
use crate::support::actors::{ALL, Answer, App, Operator, Setup};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;

on_both_stores![
    an_external_id_is_set_replaced_and_removed,
    the_same_external_id_changes_nothing,
    an_external_id_is_unique_in_its_tenant,
    a_malformed_external_id_is_refused,
    concurrent_settings_on_two_instances_have_one_winner,
    a_search_finds_external_ids_on_every_instance,
    systems_are_looked_up_by_external_id_and_ids,
    a_look_up_neither_scans_nor_costs_a_scan,
    too_many_ids_are_refused,
    the_verdict_has_the_external_id,
    both_keys_of_a_rotation_follow_the_external_id,
];

const SET: &str = "mutation ($id: ID!, $externalId: String) {
    setExternalId(systemId: $id, externalId: $externalId) { system { externalId revision } } }";
const LIST: &str = "query ($filter: SystemFilter, $search: String, $order: SystemOrder, $first: Int, $after: String) {
    systems(filter: $filter, search: $search, orderBy: $order, first: $first, after: $after) {
        totalCount nodes { name } pageInfo { hasNextPage endCursor } } }";

impl Operator<'_> {
    async fn identify(&self, id: &str, external_id: impl Into<Json>) -> Answer {
        self.query(SET, json!({ "id": id, "externalId": external_id.into() })).await
    }

    /// Creates a system with this external id.
    async fn identified(&self, name: &str, external_id: &str) -> String {
        let id = self.create_system(name).await.id;
        assert_eq!(self.identify(&id, external_id).await.code(), None);
        id
    }

    async fn names(&self, variables: Json) -> Vec<String> {
        let answer = self.query(LIST, variables).await;
        let nodes = answer.data("systems.nodes").as_array().expect("a list");
        assert_eq!(answer.data("systems.totalCount"), nodes.len());
        nodes.iter().map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
    }

    async fn filtered(&self, filter: Json) -> Vec<String> {
        self.names(json!({ "filter": filter })).await
    }
}

async fn actions(app: &App) -> Vec<Json> {
    app.log_of("acme").await.into_iter().map(|entry| entry["event"]["action"].clone()).collect()
}

async fn an_external_id_is_set_replaced_and_removed(app: App) {
    let operator = app.operator(&ALL).await;
    let id = operator.create_system("Billing").await.id;
    let document = "subscription { systemChanged { kind system { externalId } entry { action } } }";
    let mut changes = operator.subscribe(document, json!({})).await;
    let mut of_keys = operator.subscribe("subscription { keyStateChanged { kind } }", json!({})).await;
    let change = |external_id: Json| {
        json!({ "kind": "EXTERNAL_ID_CHANGED", "system": { "externalId": external_id },
            "entry": { "action": "EXTERNAL_ID_CHANGED" } })
    };
    let steps =
        [(json!(" cus_42/É "), json!("cus_42/É")), (json!("cus_43"), json!("cus_43")), (Json::Null, Json::Null)];
    for (revision, (typed, kept)) in (2..).zip(steps) {
        let answer = operator.identify(&id, typed).await;
        assert_eq!(answer.data("setExternalId.system"), &json!({ "externalId": kept, "revision": revision }));
        let shown = operator.query("query ($id: ID!) { system(id: $id) { externalId } }", json!({ "id": id })).await;
        assert_eq!(shown.data("system.externalId"), &kept);
        assert_eq!(changes.next().await, change(kept));
    }
    let log = app.log_of("acme").await;
    let images = log.iter().map(|entry| &entry["event"]).filter(|event| event["action"] == "EXTERNAL_ID_CHANGED");
    let images: Vec<_> = images.map(|event| event["image"]["externalId"].clone()).collect();
    assert_eq!(images, [json!("cus_42/É"), json!("cus_43"), Json::Null]);
    operator.generate_key(&id).await;
    assert_eq!(of_keys.next().await["kind"], "KEY_GENERATED", "external ids are left out");
    assert_eq!(operator.identify("sys_01hf7yat0000000000000000zz", "cus_1").await.code(), Some("NOT_FOUND"));
    assert_eq!(app.operator(&["view", "create"]).await.identify(&id, "cus_1").await.code(), Some("FORBIDDEN"));
}

async fn the_same_external_id_changes_nothing(app: App) {
    let operator = app.operator(&ALL).await;
    let id = operator.identified("Billing", "cus_1").await;
    let same = operator.identify(&id, "cus_1 ").await;
    assert_eq!(same.data("setExternalId.system.revision"), 2);
    let other = operator.create_system("Payments").await.id;
    for nothing in [Json::Null, json!(""), json!("  ")] {
        assert_eq!(operator.identify(&other, nothing).await.data("setExternalId.system.revision"), 1);
    }
    assert_eq!(actions(&app).await[2..], ["SYSTEM_CREATED", "EXTERNAL_ID_CHANGED", "SYSTEM_CREATED"]);
}

async fn an_external_id_is_unique_in_its_tenant(app: App) {
    let (ours, theirs) = (app.operator(&ALL).await, app.operator_of("other", &ALL).await);
    let first = ours.identified("Billing", "cus_1").await;
    let second = ours.create_system("Payments").await.id;
    let taken = ours.identify(&second, "cus_1").await;
    assert_eq!(taken.code(), Some("NAME_TAKEN"));
    assert!(taken.text.contains("external id"), "{}", taken.text);
    assert_eq!(ours.identify(&second, "Cus_1").await.code(), None, "compared exactly");
    theirs.identified("Billing", "cus_1").await;
    ours.delete_system(&first).await;
    assert_eq!(ours.identify(&second, "cus_1").await.code(), None, "free again");
}

async fn a_malformed_external_id_is_refused(app: App) {
    let operator = app.operator(&ALL).await;
    let id = operator.create_system("Billing").await.id;
    for (malformed, said) in [
        ("a\nb".to_owned(), "U+000A"),
        ("a\u{200b}b".to_owned(), "U+200B"),
        ("a\u{202e}b".to_owned(), "U+202E"),
        ("x".repeat(201), "at most 200 characters"),
    ] {
        let refused = operator.identify(&id, malformed).await;
        assert_eq!(refused.code(), Some("BAD_USER_INPUT"));
        assert!(refused.text.contains(said) && refused.text.contains("external id"), "{}", refused.text);
    }
    assert_eq!(operator.identify(&id, "é".repeat(200)).await.code(), None);
}

async fn concurrent_settings_on_two_instances_have_one_winner(app: App) {
    let (operator, other) = (app.operator(&ALL).await, app.instance(2).await);
    let beside = operator.at(&other);
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(operator.create_system(&format!("System {n}")).await.id);
    }
    let answers = join_all(ids.iter().enumerate().map(|(n, id)| {
        let operator = if n % 2 == 0 { &operator } else { &beside };
        operator.identify(id, "cus_1")
    }));
    let answers = answers.await;
    let codes: Vec<_> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some("NAME_TAKEN")).count(), 11, "{codes:?}");
    let winner = codes.iter().position(Option::is_none).expect("one");
    for operator in [&operator, &beside] {
        assert_eq!(operator.filtered(json!({ "externalId": "cus_1" })).await, [format!("System {winner}")]);
    }
}

async fn a_search_finds_external_ids_on_every_instance(app: App) {
    let (second, uncached) = (app.instance(2).await, app.instance_with(3, Setup::without_leases()).await);
    let operator = app.operator(&ALL).await;
    load(&operator, 1).await;
    load(&operator.at(&second), 1).await;
    operator.create_system("Payments").await;
    let id = operator.identified("Billing", "Cus.42 (Straße)").await;
    for instance in [&app, &second, &uncached] {
        for needle in ["cus.42", "STRASSE", "2 (s"] {
            assert_eq!(found(&operator.at(instance), needle).await, ["Billing"], "{needle}");
        }
        for needle in ["cus_42", ".*", "gcus"] {
            assert_eq!(found(&operator.at(instance), needle).await, [""; 0], "{needle}");
        }
    }
    operator.identify(&id, Json::Null).await;
    for instance in [&app, &second, &uncached] {
        assert_eq!(found(&operator.at(instance), "cus.42").await, [""; 0]);
    }
}

async fn systems_are_looked_up_by_external_id_and_ids(app: App) {
    let uncached = app.instance_with(2, Setup::without_leases()).await;
    let (operator, theirs) = (app.operator(&ALL).await, app.operator_of("other", &ALL).await);
    let billing = operator.identified("Billing", "cus_1").await;
    let payments = operator.identified("Payments", "cus_2").await;
    let archive = operator.create_system("Archive").await.id;
    let foreign = theirs.identified("Foreign", "cus_3").await;
    operator.generate_key(&payments).await;
    for operator in [&operator, &operator.at(&uncached)] {
        assert_eq!(operator.filtered(json!({ "externalId": "cus_1" })).await, ["Billing"]);
        for nothing in ["CUS_1", "cus_", "cus_3", "", " ", "a\u{0}b", &"x".repeat(300)] {
            assert_eq!(operator.filtered(json!({ "externalId": nothing })).await, [""; 0], "{nothing}");
        }
        let ids = json!([payments, "sys_01hf7yat0000000000000000zz", "nonsense", foreign, billing, billing]);
        assert_eq!(operator.filtered(json!({ "ids": ids })).await, ["Billing", "Payments"]);
        assert_eq!(operator.filtered(json!({ "ids": [] })).await, [""; 0]);
        assert_eq!(operator.filtered(json!({ "ids": null, "externalId": null })).await.len(), 3);
        assert_eq!(operator.filtered(json!({ "ids": [billing], "externalId": "cus_1" })).await, ["Billing"]);
        assert_eq!(operator.filtered(json!({ "ids": [archive], "externalId": "cus_1" })).await, [""; 0]);
        // Together with the other conditions.
        assert_eq!(operator.filtered(json!({ "ids": ids, "keyState": "ACTIVE" })).await, ["Payments"]);
        assert_eq!(operator.filtered(json!({ "ids": ids, "keyMark": "****" })).await, [""; 0]);
        let searched = json!({ "filter": { "ids": ids }, "search": "pay" });
        assert_eq!(operator.names(searched).await, ["Payments"]);
        // In pages, in any order.
        let order = json!({ "field": "KEY_GENERATED_AT", "direction": "DESC" });
        let all = json!({ "ids": [billing, payments, archive] });
        let page = operator.query(LIST, json!({ "filter": all, "order": order, "first": 1 })).await;
        assert_eq!(page.data("systems.nodes"), &json!([{ "name": "Payments" }]));
        assert_eq!(
            (page.data("systems.totalCount"), page.data("systems.pageInfo.hasNextPage")),
            (&json!(3), &json!(true))
        );
        let after = page.data("systems.pageInfo.endCursor");
        let rest = operator.query(LIST, json!({ "filter": all, "order": order, "after": after })).await;
        assert_eq!(rest.data("systems.nodes").as_array().map(Vec::len), Some(2));
    }
    operator.identify(&billing, "cus_9").await;
    operator.delete_system(&payments).await;
    for operator in [&operator, &operator.at(&uncached)] {
        assert_eq!(operator.filtered(json!({ "externalId": "cus_1" })).await, [""; 0]);
        assert_eq!(operator.filtered(json!({ "externalId": "cus_9" })).await, ["Billing"]);
        assert_eq!(operator.filtered(json!({ "ids": [payments, billing] })).await, ["Billing"]);
    }
}

async fn a_look_up_neither_scans_nor_costs_a_scan(app: App) {
    let switch = Switch::default();
    let instance = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&ALL).await;
    let id = operator.identified("Billing", "cus_1").await;
    let operator = operator.at(&instance);
    let scanning = ["scan_systems", "list_systems", "count_systems", "list_last_uses"];
    let before = switch.calls(&scanning);
    for filter in [json!({ "externalId": "cus_1" }), json!({ "ids": [id], "unusedSince": "2030-01-01T00:00:00Z" })] {
        assert_eq!(operator.filtered(filter).await, ["Billing"]);
    }
    assert_eq!(switch.calls(&scanning), before);
    let many = |arguments: &str, filter: &str| {
        let field = |n| format!("a{n}: systems(filter: {filter}, orderBy: {{ field: LAST_USED_AT, direction: ASC }}) ");
        let fields: Vec<_> = (0..20).map(|n| format!("{}{{ totalCount nodes {{ name }} }} ", field(n))).collect();
        format!("query {arguments} {{ {} }}", fields.concat())
    };
    let variables = json!({ "ids": [id], "id": "cus_1", "filter": { "ids": [id] } });
    for (arguments, filter) in [
        ("", r#"{ externalId: "cus_1" }"#),
        ("($id: String)", "{ externalId: $id }"),
        ("($ids: [ID!])", "{ ids: $ids }"),
        ("($filter: SystemFilter)", "$filter"),
    ] {
        let answer = operator.query(&many(arguments, filter), variables.clone()).await;
        assert_eq!(answer.code(), None, "{filter}: {}", answer.text);
        let without = operator.query(&many(arguments, &filter.replace("\"cus_1\"", "null")), json!({})).await;
        assert_eq!(without.code(), Some("QUERY_TOO_COMPLEX"), "{filter}");
    }
}

async fn too_many_ids_are_refused(app: App) {
    let operator = app.operator(&ALL).await;
    let id = operator.create_system("Billing").await.id;
    assert_eq!(operator.filtered(json!({ "ids": vec![&id; 200] })).await, ["Billing"]);
    let refused = operator.query(LIST, json!({ "filter": { "ids": vec![&id; 201] } })).await;
    assert_eq!(refused.code(), Some("BAD_USER_INPUT"));
    assert!(refused.text.contains("at most 200 ids"), "{}", refused.text);
}

async fn the_verdict_has_the_external_id(app: App) {
    let (second, uncached) = (app.instance(2).await, app.instance_with(3, Setup::without_leases()).await);
    let operator = app.operator(&ALL).await;
    let id = operator.create_system("Billing").await.id;
    let key = operator.generate_key(&id).await.api_key;
    let instances = [&app, &second, &uncached];
    for (typed, header) in [
        (Json::Null, None),
        (json!("cus_1/\"É\""), Some("cus_1%2F%22%C3%89%22")),
        (json!("cus_2"), Some("cus_2")),
        (Json::Null, None),
    ] {
        assert_eq!(operator.identify(&id, typed.clone()).await.code(), None);
        for instance in instances {
            let shown = async || instance.verifier().verify(&key).await.body;
            instance
                .wait_until(async || shown().await.get("externalId") == Some(&typed).filter(|id| !id.is_null()))
                .await;
            assert_eq!(shown().await["code"], "VALID");
            let forwarded = instance.verifier().forward_auth(&[("x-api-key", &key)]).await;
            assert_eq!(forwarded.header("x-keymark-external-id"), header, "{typed}");
        }
    }
    // A key that is generated later has it, and an instance that starts later too.
    operator.identify(&id, "cus_3").await;
    let new = operator.query("mutation ($id: ID!) { rotateKey(systemId: $id) { apiKey } }", json!({ "id": id })).await;
    let new = new.data("rotateKey.apiKey").as_str().expect("a key").to_owned();
    let late = app.instance(4).await;
    late.wait_for_cache().await;
    for instance in [&app, &second, &uncached, &late] {
        assert_eq!(instance.verifier().verify(&new).await.body["externalId"], "cus_3");
    }
    operator.revoke_key(&id).await;
    let refused = second.verifier().verify(&new).await.body;
    assert_eq!((&refused["code"], refused.get("externalId")), (&json!("REVOKED"), None));
}

async fn both_keys_of_a_rotation_follow_the_external_id(app: App) {
    let second = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let id = operator.create_system("Billing").await.id;
    let old = operator.generate_key(&id).await.api_key;
    let new = operator.query("mutation ($id: ID!) { rotateKey(systemId: $id) { apiKey } }", json!({ "id": id })).await;
    let new = new.data("rotateKey.apiKey").as_str().expect("a key").to_owned();
    operator.identify(&id, "cus_1").await;
    for (key, role) in [(&old, "RETIRING"), (&new, "CURRENT")] {
        for instance in [&app, &second] {
            let shown = async || instance.verifier().verify(key).await.body;
            instance.wait_until(async || shown().await["externalId"] == "cus_1").await;
            assert_eq!(shown().await["keyRole"], role);
        }
    }
}
