//! Tenants: their changes, suspension, and callers who act in another one.

use std::time::Duration;

use http::{Method, StatusCode};
use keymark::admin::Command;
use keymark::service::Settings;
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, Answer, App, Operator, PASSWORD, PLATFORM, Setup};
use crate::support::on_both_stores;
use crate::support::sockets::{Event, Socket};

on_both_stores![
    a_tenant_is_created_renamed_and_deleted,
    refusals_of_tenants_name_their_reason,
    a_policy_is_changed_one_rule_at_a_time,
    tenants_are_listed_and_searched,
    entries_of_a_platform_operator_stand_in_the_log_of_the_tenant_and_say_so,
    header_decides_which_tenant_a_request_is_about,
    tenant_of_others_is_refused_on_every_path,
    subscription_of_a_visitor_ends_with_the_code_at_home,
    subscription_of_a_visitor_ends_with_the_tenant,
    subscription_of_a_visitor_ends_with_the_suspension_of_their_home,
    suspended_tenant_is_refused_and_comes_back_as_it_was,
    systems_of_all_tenants_on_a_page_are_counted,
    the_cache_of_another_instance_is_enforced_too,
    a_repeated_suspension_keeps_the_first_reason,
    an_operator_of_a_new_tenant_creates_its_row,
    deletion_removes_operators_and_sessions,
    sessions_are_idle_for_as_long_as_their_tenant_allows,
];

const TENANT: &str = "{ tenant { id name suspendedAt policy { maxKeyLifetimeDays sessionIdleMinutes } systemCount } }";

async fn tenant_of(operator: &Operator<'_>) -> Json {
    operator.query(TENANT, json!({})).await.data("tenant").clone()
}

/// Creates a tenant with an operator who has all codes of a tenant.
async fn with_operator<'a>(app: &'a App, platform: &Operator<'_>, id: &str) -> Operator<'a> {
    let created = platform.change_tenant("createTenant", id, "name: \"Acme\"").await;
    assert_eq!(created.data("createTenant.enforcement.state"), "ENFORCED");
    app.operator_of(id, &ALL).await
}

async fn new_key(operator: &Operator<'_>, name: &str) -> String {
    operator.generate_key(&operator.create_system(name).await.id).await.api_key
}

/// Opens a socket in a tenant, and subscribes to the changes of its systems.
async fn follow(operator: &Operator<'_>, tenant: &str) -> Socket {
    let payload = json!({ "authorization": format!("Bearer {}", operator.token), "tenant": tenant });
    let mut socket = Socket::open(operator.app.listen().await, &[], payload).await;
    socket.acknowledged().await.expect("acknowledged");
    // Whether the next change is made before the subscription begins or after, it is delivered.
    let variables = json!({ "after": operator.acting_in(tenant).audit_cursor().await });
    let query = "subscription ($after: String) { systemChanged(after: $after) { system { name } } }";
    let payload = json!({ "query": query, "variables": variables });
    socket.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
    socket
}

/// Waits until a new system arrives, so that the subscription runs.
async fn receive_one(socket: &mut Socket, visitor: &Operator<'_>, name: &str) {
    visitor.create_system(name).await;
    let data = socket.event().await.data();
    assert_eq!(data.pointer("/systemChanged/system/name"), Some(&json!(name)));
}

async fn a_tenant_is_created_renamed_and_deleted(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let created = platform.change_tenant("createTenant", "acme", "name: \" Acme Corp \"").await;
    let policy = json!({ "maxKeyLifetimeDays": null, "sessionIdleMinutes": null });
    let mut expected =
        json!({ "id": "acme", "name": "Acme Corp", "suspendedAt": null, "policy": policy, "systemCount": 0 });
    assert_eq!(created.data("createTenant.tenant"), &expected);
    assert_eq!(created.data("createTenant.enforcement.state"), "ENFORCED");

    let acting = platform.acting_in("acme");
    assert_eq!(tenant_of(&acting).await, expected);
    let system = acting.create_system("Billing").await;
    let renamed = platform.change_tenant("renameTenant", "acme", "name: \"A\"").await;
    (expected["name"], expected["systemCount"]) = (json!("A"), json!(1));
    assert_eq!(renamed.data("renameTenant.tenant"), &expected);
    assert_eq!(platform.change_tenant("renameTenant", "acme", "name: \"A\"").await.code(), None);

    assert_eq!(platform.delete_tenant("acme").await.code(), Some("TENANT_NOT_EMPTY"));
    acting.delete_system(&system.id).await;
    assert_eq!(platform.delete_tenant("acme").await.data("deleteTenant.deletedTenantId"), "acme");
    assert_eq!(acting.query(TENANT, json!({})).await.code(), Some("NOT_FOUND"));
    assert_eq!(platform.delete_tenant("acme").await.code(), Some("NOT_FOUND"), "a repeat");

    let again = platform.change_tenant("createTenant", "acme", "name: \"Another Acme\"").await;
    assert_eq!(again.data("createTenant.tenant.name"), "Another Acme");
    let actions: Vec<_> = app.log_of("acme").await.iter().map(|entry| entry["event"]["action"].clone()).collect();
    let expected =
        ["TENANT_CREATED", "SYSTEM_CREATED", "TENANT_RENAMED", "SYSTEM_DELETED", "TENANT_DELETED", "TENANT_CREATED"];
    assert_eq!(actions, expected, "the log continues");
}

async fn refusals_of_tenants_name_their_reason(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    with_operator(&app, &platform, "acme").await;
    let code = async |mutation: &str, id: &str, arguments: &str| {
        platform.change_tenant(mutation, id, arguments).await.code().map(str::to_owned)
    };
    let long = format!("name: \"{}\"", "x".repeat(65));
    for (mutation, id, arguments, expected) in [
        ("createTenant", "acme", "name: \"Acme\"", "NAME_TAKEN"),
        ("createTenant", "default", "name: \"Acme\"", "NAME_TAKEN"),
        ("createTenant", "Acme", "name: \"Acme\"", "BAD_USER_INPUT"),
        ("createTenant", "sys_01hf7yat00000000000000000x", "name: \"Acme\"", "BAD_USER_INPUT"),
        ("createTenant", "other", "name: \" \"", "INVALID_NAME"),
        ("createTenant", "other", long.as_str(), "INVALID_NAME"),
        ("renameTenant", "acme", "name: \"\"", "INVALID_NAME"),
        ("renameTenant", "other", "name: \"Other\"", "NOT_FOUND"),
        ("setTenantPolicy", "other", "maxKeyLifetimeDays: 1", "NOT_FOUND"),
        ("setTenantPolicy", "acme", "maxKeyLifetimeDays: 0", "BAD_USER_INPUT"),
        ("setTenantPolicy", "acme", "maxKeyLifetimeDays: -1", "BAD_USER_INPUT"),
        ("setTenantPolicy", "acme", "sessionIdleMinutes: 1", "BAD_USER_INPUT"),
        ("suspendTenant", "other", "", "NOT_FOUND"),
        ("suspendTenant", "Not an id", "", "NOT_FOUND"),
        ("suspendTenant", "default", "", "BAD_USER_INPUT"),
        ("resumeTenant", "acme", "", "NOT_SUSPENDED"),
        ("resumeTenant", "other", "", "NOT_FOUND"),
    ] {
        assert_eq!(code(mutation, id, arguments).await.as_deref(), Some(expected), "{mutation}({id} {arguments})");
    }
    assert_eq!(platform.delete_tenant("default").await.code(), Some("BAD_USER_INPUT"));
    assert_eq!(platform.delete_tenant("Not an id").await.code(), Some("NOT_FOUND"));
}

async fn a_policy_is_changed_one_rule_at_a_time(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    for (arguments, days, minutes) in [
        ("maxKeyLifetimeDays: 90", json!(90), json!(null)),
        ("sessionIdleMinutes: 15", json!(90), json!(15)),
        ("", json!(90), json!(15)),
        ("maxKeyLifetimeDays: null", json!(null), json!(15)),
        ("maxKeyLifetimeDays: 7 sessionIdleMinutes: null", json!(7), json!(null)),
    ] {
        let changed = platform.change_tenant("setTenantPolicy", "acme", arguments).await;
        let expected = json!({ "maxKeyLifetimeDays": days, "sessionIdleMinutes": minutes });
        assert_eq!(changed.data("setTenantPolicy.tenant.policy"), &expected, "{arguments}");
        assert_eq!(tenant_of(&acme).await["policy"], expected);
    }
    let key = new_key(&acme, "Billing").await;
    app.clock.advance(Duration::from_hours(7 * 24));
    assert_eq!(app.verifier().code(&key).await, "EXPIRED");
}

async fn tenants_are_listed_and_searched(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    for (id, name) in [("acme", "Acme"), ("bolt", "Straße"), ("core", "ACME 2"), ("dust", "Dust")] {
        assert_eq!(platform.change_tenant("createTenant", id, &format!("name: \"{name}\"")).await.code(), None);
    }
    let list = async |arguments: &str| {
        let document = format!(
            "{{ tenants{arguments} {{ nodes {{ id }} edges {{ cursor node {{ id }} }} totalCount
                pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"
        );
        platform.query(&document, json!({})).await
    };
    let ids = |answer: &Answer| {
        let nodes = answer.data("tenants.nodes").as_array().expect("nodes").clone();
        let edges = answer.data("tenants.edges").as_array().expect("edges").clone();
        assert!(nodes.iter().eq(edges.iter().map(|edge| &edge["node"])));
        nodes.iter().map(|node| node["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&list("").await), ["acme", "bolt", "core", "default", "dust"]);
    for (search, found) in [("acme", vec!["acme", "core"]), ("STRASSE", vec!["bolt"]), (".*", vec![])] {
        let answer = list(&format!("(search: \"{search}\")")).await;
        assert_eq!(
            (ids(&answer), answer.data("tenants.totalCount")),
            (found.into_iter().map(str::to_owned).collect(), &json!(ids(&answer).len()))
        );
    }
    let first = list("(first: 2)").await;
    assert_eq!(
        (ids(&first), first.data("tenants.pageInfo.hasNextPage")),
        (vec!["acme".into(), "bolt".into()], &json!(true))
    );
    let cursor = first.data("tenants.pageInfo.endCursor").as_str().expect("a cursor");
    // A page stays right while tenants come and go.
    assert_eq!(platform.delete_tenant("bolt").await.code(), None);
    let rest = list(&format!("(first: 9, after: \"{cursor}\")")).await;
    assert_eq!(
        (ids(&rest), rest.data("tenants.pageInfo.hasNextPage")),
        (vec!["core".into(), "default".into(), "dust".into()], &json!(false))
    );
    let last = list(&format!("(last: 1, before: \"{cursor}\")")).await;
    assert_eq!(ids(&last), ["acme"]);
    assert_eq!(list("(after: \"forged\")").await.code(), Some("BAD_USER_INPUT"));
    assert_eq!(list("(first: 201)").await.code(), Some("BAD_USER_INPUT"));
    let counted = platform.query("{ tenants(first: 200) { nodes { systemCount } } }", json!({})).await;
    assert_eq!(counted.data("tenants.nodes.0.systemCount"), 0);

    let node = "query ($id: ID!) { node(id: $id) { id ... on Tenant { name } } }";
    let visible = platform.query(node, json!({ "id": "core" })).await;
    assert_eq!(visible.data("node"), &json!({ "id": "core", "name": "ACME 2" }));
    let acme = app.operator_of("acme", &ALL).await;
    assert_eq!(acme.query(node, json!({ "id": "acme" })).await.data("node.name"), "Acme");
    assert_eq!(acme.query(node, json!({ "id": "core" })).await.data("node"), &Json::Null);
    assert_eq!(acme.query("{ viewer { tenant { id } } }", json!({})).await.data("viewer.tenant.id"), "acme");
    assert_eq!(acme.query("{ tenants { totalCount } }", json!({})).await.code(), Some("FORBIDDEN"));
}

async fn systems_of_all_tenants_on_a_page_are_counted(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    for number in 0..60 {
        platform.change_tenant("createTenant", &format!("tenant-{number:02}"), "name: \"Tenant\"").await;
    }
    for systems in ["First", "Second"] {
        platform.acting_in("tenant-07").create_system(systems).await;
    }
    let document = "{ tenants(first: 200) { nodes { id systemCount } edges { node { systemCount } } } }";
    let answer = platform.query(document, json!({})).await;
    let nodes = answer.data("tenants.nodes").as_array().expect("nodes");
    let edges = answer.data("tenants.edges").as_array().expect("edges");
    let counts = |nodes: Vec<&Json>| nodes.iter().map(|node| node["systemCount"].as_u64()).collect::<Vec<_>>();
    let expected: Vec<_> = nodes.iter().map(|node| Some(if node["id"] == "tenant-07" { 2 } else { 0 })).collect();
    assert!(expected.len() > 60);
    assert_eq!(counts(nodes.iter().collect()), expected);
    assert_eq!(counts(edges.iter().map(|edge| &edge["node"]).collect()), expected);
}

async fn entries_of_a_platform_operator_stand_in_the_log_of_the_tenant_and_say_so(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    platform.acting_in("acme").create_system("Billing").await;
    platform.create_system("At home").await;
    platform.suspend_tenant("acme").await;
    platform.resume_tenant("acme").await;
    acme.create_system("Own").await;
    let of = |log: &[Json]| {
        let of_operators = log.iter().filter(|entry| entry["event"]["actor"]["kind"] == "OPERATOR");
        let shown = of_operators.map(|entry| {
            let event = &entry["event"];
            (event["action"].as_str().unwrap().to_owned(), event["actor"]["isPlatform"] == true)
        });
        shown.filter(|(action, _)| !action.starts_with("SIGNED")).collect::<Vec<_>>()
    };
    let pair = |action: &str, is_platform| (action.to_owned(), is_platform);
    let expected = [
        pair("TENANT_CREATED", true),
        pair("SYSTEM_CREATED", true),
        pair("TENANT_SUSPENDED", true),
        pair("TENANT_RESUMED", true),
        pair("SYSTEM_CREATED", false),
    ];
    assert_eq!(of(&app.log_of("acme").await), expected);
    assert_eq!(of(&app.log_of("default").await), [pair("SYSTEM_CREATED", false)]);
    let shown = acme.query("{ auditLog(first: 1) { nodes { actor { isPlatform } } } }", json!({})).await;
    assert_eq!(shown.data("auditLog.nodes.0.actor.isPlatform"), false);
}

async fn header_decides_which_tenant_a_request_is_about(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    acme.create_system("Of Acme").await;
    platform.create_system("At home").await;
    let acting = platform.acting_in("acme");
    let names = "{ systems { nodes { name } } viewer { tenantId } }";
    for (operator, name, home) in [
        (&platform, "At home", "default"),
        (&acting, "Of Acme", "default"),
        (&acme.acting_in("acme"), "Of Acme", "acme"),
    ] {
        let answer = operator.query(names, json!({})).await;
        assert_eq!(answer.data("systems.nodes"), &json!([{ "name": name }]));
        assert_eq!(answer.data("viewer.tenantId"), home);
        let by_get = operator.get("/graphql?query=%7Bsystems%7Bnodes%7Bname%7D%7D%7D").await;
        assert_eq!(by_get.data("systems.nodes"), &json!([{ "name": name }]));
    }
    for (path, has_header) in [
        ("/audit/export?format=jsonl", true),
        ("/audit/export?format=jsonl&tenant=acme", false),
        // The parameter is more specific.
        ("/audit/export?format=jsonl&tenant=acme", true),
    ] {
        let answer = if has_header { acting.get(path).await } else { platform.get(path).await };
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.text.contains("Of Acme") && !answer.text.contains("At home"), "{path}: {}", answer.text);
    }
    let at_home = acting.get("/audit/export?format=jsonl&tenant=default").await;
    assert!(at_home.text.contains("At home") && !at_home.text.contains("Of Acme"), "{}", at_home.text);

    let mut socket = follow(&platform, "acme").await;
    receive_one(&mut socket, &acting, "Live").await;
    // The header of the upgrade counts where the payload names no tenant.
    let bearer = json!({ "authorization": format!("Bearer {}", platform.token), "tenant": null });
    let mut socket = Socket::open(app.listen().await, &[("x-keymark-tenant", "acme")], bearer).await;
    socket.acknowledged().await.expect("acknowledged");
    let payload = json!({ "query": "{ tenant { id } }" });
    socket.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
    assert_eq!(socket.event().await, Event::Next(json!({ "tenant": { "id": "acme" } })));
}

async fn tenant_of_others_is_refused_on_every_path(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    let blind = app.platform_operator("default", &ALL).await;
    for (caller, tenant, status, code) in [
        (&acme, "default", StatusCode::FORBIDDEN, "FORBIDDEN"),
        (&acme, "nowhere", StatusCode::FORBIDDEN, "FORBIDDEN"),
        (&acme, "Not an id", StatusCode::FORBIDDEN, "FORBIDDEN"),
        (&blind, "nowhere", StatusCode::FORBIDDEN, "FORBIDDEN"),
        (&blind, "Not an id", StatusCode::FORBIDDEN, "FORBIDDEN"),
        (&platform, "nowhere", StatusCode::NOT_FOUND, "NOT_FOUND"),
        (&platform, "Not an id", StatusCode::NOT_FOUND, "NOT_FOUND"),
        (&platform, "", StatusCode::NOT_FOUND, "NOT_FOUND"),
    ] {
        let acting = caller.acting_in(tenant);
        let export = format!("/audit/export?format=csv&tenant={}", tenant.replace(' ', "%20"));
        let by_parameter = if tenant.is_empty() { None } else { Some(caller.get(&export).await) };
        let answers = [
            acting.query("{ viewer { username } }", json!({})).await,
            acting.get("/graphql?query=%7Bviewer%7Busername%7D%7D").await,
            acting.get("/audit/export?format=csv").await,
        ];
        for answer in answers.into_iter().chain(by_parameter) {
            assert_eq!((answer.status, answer.code()), (status, Some(code)), "{tenant}: {}", answer.text);
            assert!(!answer.text.contains("nowhere"), "{}", answer.text);
        }
        let payload = json!({ "authorization": format!("Bearer {}", caller.token), "tenant": tenant });
        let mut socket = Socket::open(app.listen().await, &[], payload).await;
        assert_eq!(socket.closed().await.0, 4403, "{tenant}");
    }
    assert_eq!(tenant_of(&blind.acting_in("acme")).await["id"], "acme", "its codes hold in every tenant");
    let twice = platform.acting_in("acme").acting_in("acme").query(TENANT, json!({})).await;
    assert_eq!(twice.status, StatusCode::NOT_FOUND, "two headers name no tenant");
    // The cookie is a credential like the token.
    let cookie = app.anonymous().with_cookie(&acme.token).on_own_page().with("x-keymark-tenant", "default");
    assert_eq!(cookie.query("{ viewer { username } }", json!({})).await.code(), Some("FORBIDDEN"));
    assert_eq!(app.log_of("nowhere").await, Vec::<Json>::new());
}

async fn subscription_of_a_visitor_ends_with_the_code_at_home(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    with_operator(&app, &platform, "acme").await;
    let mut socket = follow(&platform, "acme").await;
    receive_one(&mut socket, &platform.acting_in("acme"), "Live").await;
    platform.may(&["create", "tenant_management:view"]).await;
    assert_eq!(socket.event().await, Event::Error("FORBIDDEN".to_owned()));
}

async fn subscription_of_a_visitor_ends_with_the_tenant(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    let mut socket = follow(&platform, "acme").await;
    receive_one(&mut socket, &platform.acting_in("acme"), "Live").await;
    let systems = acme.query("{ systems { nodes { id } } }", json!({})).await;
    let id = systems.data("systems.nodes.0.id").as_str().expect("an id").to_owned();
    acme.delete_system(&id).await;
    assert!(matches!(socket.event().await, Event::Next(_)), "the deletion");
    assert_eq!(platform.delete_tenant("acme").await.code(), None);
    let ended = socket.event().await;
    assert!([Event::Error("NOT_FOUND".to_owned()), Event::Closed(4403)].contains(&ended), "{ended:?}");
}

async fn subscription_of_a_visitor_ends_with_the_suspension_of_their_home(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    with_operator(&app, &platform, "acme").await;
    let visitor = app.platform_operator("staff", &ALL).await;
    let mut socket = follow(&visitor, "acme").await;
    receive_one(&mut socket, &visitor.acting_in("acme"), "Live").await;
    let refused = platform.change_tenant("suspendTenant", "staff", "").await;
    assert_eq!(refused.code(), Some("FORBIDDEN"), "it would suspend an operator of the platform");
    let codes = [&PLATFORM[..], &["operator_management:edit"]].concat();
    app.platform_operator("default", &codes).await.suspend_tenant("staff").await;
    let ended = socket.event().await;
    assert!([Event::Error("TENANT_SUSPENDED".to_owned()), Event::Closed(4403)].contains(&ended), "{ended:?}");
    let refused = visitor.acting_in("acme").query(TENANT, json!({})).await;
    assert_eq!(refused.code(), Some("TENANT_SUSPENDED"));
}

async fn suspended_tenant_is_refused_and_comes_back_as_it_was(app: App) {
    let uncached = app.instance_with(2, Setup::without_leases()).await;
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    let (key, other) = (new_key(&acme, "Billing").await, new_key(&platform, "Other").await);
    let mut socket = follow(&acme, "acme").await;
    receive_one(&mut socket, &acme, "Live").await;
    for round in 0..2 {
        for instance in [&app, &uncached] {
            assert_eq!(instance.verifier().code(&key).await, "VALID");
            assert!(acme.at(instance).is_signed_in().await, "round {round}");
        }
        platform.suspend_tenant("acme").await;
        for instance in [&app, &uncached] {
            assert_eq!(instance.verifier().code(&key).await, "SUSPENDED");
            assert_eq!(instance.verifier().code(&other).await, "VALID");
            let bearer = acme.at(instance).query("{ viewer { username } }", json!({})).await;
            assert_eq!((bearer.status, bearer.code()), (StatusCode::FORBIDDEN, Some("TENANT_SUSPENDED")));
            let cookie = instance.anonymous().with_cookie(&acme.token).on_own_page();
            let signed_out = cookie.query("{ viewer { username } }", json!({})).await;
            assert_eq!(signed_out.data("viewer"), &Json::Null);
            let anonymous = instance.anonymous();
            assert_eq!(anonymous.sign_in(&acme.username, PASSWORD).await.code(), Some("TENANT_SUSPENDED"));
            let wrong = anonymous.sign_in(&acme.username, "not the password").await;
            assert_eq!(wrong.code(), Some("INVALID_CREDENTIALS"));
            let bearer = json!({ "authorization": format!("Bearer {}", acme.token) });
            let mut refused = Socket::open(instance.listen().await, &[], bearer).await;
            assert_eq!(refused.event().await, Event::Closed(4403));
            assert_eq!(tenant_of(&platform.at(instance).acting_in("acme")).await["id"], "acme", "for the platform");
        }
        if round == 0 {
            let ended = socket.event().await;
            assert!([Event::Error("TENANT_SUSPENDED".to_owned()), Event::Closed(4403)].contains(&ended), "{ended:?}");
        }
        platform.resume_tenant("acme").await;
    }
    for instance in [&app, &uncached] {
        assert_eq!(instance.verifier().code(&key).await, "VALID");
        assert!(acme.at(instance).is_signed_in().await);
        assert_eq!(instance.anonymous().sign_in(&acme.username, PASSWORD).await.code(), None);
    }
}

async fn the_cache_of_another_instance_is_enforced_too(app: App) {
    let other = app.instance(2).await;
    for instance in [&app, &other] {
        instance.wait_for_cache().await;
    }
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    let key = new_key(&acme, "Billing").await;
    for _ in 0..5 {
        platform.suspend_tenant("acme").await;
        assert_eq!(other.verifier().code(&key).await, "SUSPENDED");
        assert_eq!(acme.at(&other).query(TENANT, json!({})).await.code(), Some("TENANT_SUSPENDED"));
        platform.at(&other).resume_tenant("acme").await;
        assert_eq!(app.verifier().code(&key).await, "VALID");
        assert!(acme.is_signed_in().await);
    }
    // A key that is generated during the suspension is refused as well.
    platform.suspend_tenant("acme").await;
    let generated = new_key(&platform.acting_in("acme"), "During").await;
    assert_eq!(other.verifier().code(&generated).await, "SUSPENDED");
    platform.resume_tenant("acme").await;
    assert_eq!(other.verifier().code(&generated).await, "VALID");
}

async fn a_repeated_suspension_keeps_the_first_reason(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    with_operator(&app, &platform, "acme").await;
    let first = platform.change_tenant("suspendTenant", "acme", "reason: \"unpaid\"").await;
    app.clock.advance(Duration::from_secs(60));
    let second = platform.change_tenant("suspendTenant", "acme", "reason: \"another\"").await;
    assert_eq!(first.data("suspendTenant.tenant"), second.data("suspendTenant.tenant"));
    let log = app.log_of("acme").await;
    let reasons: Vec<_> = log.iter().filter(|entry| entry["event"]["action"] == "TENANT_SUSPENDED").collect();
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0]["event"]["reason"], "unpaid");
    assert_eq!(reasons[0]["event"]["tenantName"], "Acme");
}

async fn an_operator_of_a_new_tenant_creates_its_row(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let fresh = app.operator_of("fresh", &ALL).await;
    assert_eq!(tenant_of(&fresh).await["name"], "fresh");
    let row = app.store.find_tenant(&"fresh".parse().unwrap()).await.unwrap().expect("a row");
    assert_eq!((row.revision, row.suspended_at()), (1, None));
    assert_eq!(platform.change_tenant("createTenant", "fresh", "name: \"Fresh\"").await.code(), Some("NAME_TAKEN"));
    let log = app.log_of("fresh").await;
    assert_eq!(log[0]["event"]["action"], "OPERATOR_ADDED", "no other entry");
}

async fn deletion_removes_operators_and_sessions(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    let acme = with_operator(&app, &platform, "acme").await;
    assert!(acme.is_signed_in().await);
    assert_eq!(platform.delete_tenant("acme").await.code(), None);
    assert!(!acme.is_signed_in().await);
    let again = app.anonymous().sign_in(&acme.username, PASSWORD).await;
    assert_eq!(again.code(), Some("INVALID_CREDENTIALS"));
    app.service.finish().await;
    let id = "acme".parse().unwrap();
    assert_eq!(app.store.list_operators(Some(&id)).await.unwrap(), []);
    assert_eq!(app.store.find_tenant(&id).await.unwrap(), None);
    // The username is free again, and its new owner has none of the old sessions.
    app.add_operator("other", &acme.username, &ALL).await;
    assert!(!acme.is_signed_in().await);
}

async fn sessions_are_idle_for_as_long_as_their_tenant_allows(app: App) {
    let minutes = Duration::from_mins;
    let settings = Settings { session_idle: Some(minutes(30)), ..Setup::default().settings };
    let instance = app.instance_with(2, Setup { settings, ..Setup::default() }).await;
    let platform = instance.platform_operator("default", &PLATFORM).await;
    let (acme, other) =
        (with_operator(&instance, &platform, "acme").await, with_operator(&instance, &platform, "other").await);
    assert_eq!(platform.change_tenant("setTenantPolicy", "acme", "sessionIdleMinutes: 5").await.code(), None);
    assert_eq!(platform.change_tenant("setTenantPolicy", "other", "sessionIdleMinutes: 60").await.code(), None);
    for _ in 0..3 {
        instance.clock.advance(minutes(4));
        assert!(acme.is_signed_in().await && other.is_signed_in().await);
    }
    instance.clock.advance(minutes(7));
    assert!(!acme.is_signed_in().await, "the tenant's limit is the shorter one");
    assert!(other.is_signed_in().await);
    instance.clock.advance(minutes(32));
    assert!(!other.is_signed_in().await, "the server's limit is the shorter one");
}

#[tokio::test]
async fn the_header_is_allowed_from_allowed_origins() {
    use keymark::http::front::Front;
    let origin = "https://frontend.example";
    let front = Front { allowed_origins: vec![origin.to_owned()], ..Front::default() };
    let app = App::embedded_with(Setup { front, ..Setup::default() }).await;
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-keymark-tenant"),
    ];
    let preflight = app.anonymous().send(Method::OPTIONS, "/graphql", &headers, String::new()).await;
    let allowed = preflight.header("access-control-allow-headers").expect("allowed").to_owned();
    assert!(allowed.split(',').any(|name| name.trim() == "x-keymark-tenant"), "{allowed}");
}

#[tokio::test]
async fn the_command_line_manages_tenants() {
    let app = App::embedded().await;
    app.add_operator("default", "ada", &ALL).await;
    let run = async |arguments: &[&str]| {
        let output = app.cli(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) = run(&["tenant", "create", "acme", "--name", "Acme Corp"]).await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(said, @r"
    created acme	Acme Corp	active	any life of keys
    Add its first operator: keymark operator add USERNAME --tenant acme --permissions all
    ");
    let (_, said, _) = run(&["tenant", "list"]).await;
    insta::assert_snapshot!(said, @r"
    acme	Acme Corp	active	any life of keys	0 systems	warning: no operator
    default	default	active	any life of keys	0 systems
    ");
    assert_eq!(run(&["tenant", "rename", "acme", "--name", "A"]).await.0, 0);
    let policy = ["tenant", "set-policy", "acme", "--max-key-lifetime-days", "90", "--session-idle-minutes", "15"];
    let (_, said, _) = run(&policy).await;
    insta::assert_snapshot!(said, @"acme	A	active	keys 90 days, sessions idle 15 minutes");
    let (_, said, _) = run(&["tenant", "set-policy", "acme", "--max-key-lifetime-days", "none"]).await;
    insta::assert_snapshot!(said, @"acme	A	active	any life of keys, sessions idle 15 minutes");
    assert_eq!(run(&["tenant", "set-policy", "acme"]).await.0, 2, "which rule?");
    // The command line may suspend a tenant whose operators run it.
    let (code, said, _) = run(&["tenant", "suspend", "default", "--reason", "moved"]).await;
    assert!(code == 0 && said.contains("suspended since"), "{said}");
    assert_eq!(app.anonymous().sign_in("ada", PASSWORD).await.code(), Some("TENANT_SUSPENDED"));
    assert_eq!(run(&["tenant", "resume", "default"]).await.0, 0);
    let (code, _, error) = run(&["tenant", "resume", "default"]).await;
    assert!(code == 1 && error.contains("not suspended"), "{error}");
    let (_, said, _) = run(&["tenant", "delete", "acme"]).await;
    assert_eq!(said, "deleted acme; its audit log stays\n");
    let (code, _, error) = run(&["tenant", "delete", "acme"]).await;
    assert!(code == 1 && error.contains("tenant acme not found"), "{error}");
    let (code, _, error) = run(&["tenant", "create", "Acme"]).await;
    assert!(code == 1 && error.contains("1 to 63"), "{error}");
}

#[tokio::test]
async fn commands_warn_when_they_remove_the_last_operator_of_the_platform_or_of_a_tenant() {
    let app = App::embedded().await;
    for (tenant, username) in [("default", "ada"), ("acme", "bob")] {
        app.add_operator(tenant, username, &ALL).await;
    }
    let run = async |arguments: &[&str]| String::from_utf8(app.cli(arguments).await.stdout).expect("UTF-8");
    let left = "warning: no operator of the platform is left; add one with keymark operator promote USERNAME\n";
    for username in ["ada", "bob"] {
        run(&["operator", "promote", username]).await;
    }
    let removed = run(&["operator", "remove", "ada"]).await;
    let of_tenant = "warning: tenant default has no operator who may sign in; add one with keymark operator add USERNAME \
                     --tenant default\n";
    assert!(removed.starts_with("removed ada\t") && removed.ends_with(of_tenant), "{removed}");
    let deleted = run(&["tenant", "delete", "acme"]).await;
    let expected = "deleted acme; its audit log stays\nwarning: removed operators of the platform: bob\n";
    assert_eq!(deleted, format!("{expected}{left}"));

    for username in ["ada", "carol"] {
        app.add_operator("default", username, &ALL).await;
    }
    run(&["operator", "promote", "ada"]).await;
    let removed = run(&["operator", "remove", "ada"]).await;
    assert!(removed.ends_with(left) && !removed.contains("tenant default"), "{removed}");
    let suspended = run(&["operator", "suspend", "carol"]).await;
    assert!(suspended.ends_with(of_tenant), "{suspended}");
}

#[tokio::test]
async fn tenants_are_counted_by_state() {
    let app = App::embedded().await;
    app.wait_for_cache().await;
    let platform = app.platform_operator("default", &PLATFORM).await;
    with_operator(&app, &platform, "acme").await;
    platform.suspend_tenant("acme").await;
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    for line in ["tenants{state=\"active\"} 1.0", "tenants{state=\"suspended\"} 1.0"] {
        assert!(metrics.lines().any(|found| found.ends_with(line)), "{line}");
    }
}

#[tokio::test]
async fn a_tenant_without_operators_is_deleted_by_a_command() {
    use keymark::admin::tenants::TenantCommand;
    let app = App::embedded().await;
    app.add_operator("default", "ada", &ALL).await;
    let create = TenantCommand::Create { id: "acme".to_owned(), name: None };
    app.command(Command::Tenant(create)).await.expect("created");
    let delete = TenantCommand::Delete { id: "acme".parse().unwrap() };
    assert_eq!(app.command(Command::Tenant(delete)).await.expect("deleted"), "deleted acme; its audit log stays\n");
}
