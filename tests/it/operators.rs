//! Operators: added, changed, suspended and removed by administrators; and their sessions.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use futures::stream;
use http::Method;
use keymark::admin::Command;
use keymark::domain::time::Timestamp;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use crate::authorisation::codes_of;
use crate::support::actors::{Answer, App, Caller, Operator, PASSWORD, Setup, permissions};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;
use crate::support::sockets::Event;

on_both_stores![
    entries_of_commands_have_the_name_of_their_user,
    operator_is_added_with_a_one_time_password,
    nobody_gives_codes_that_they_do_not_hold,
    only_the_platform_changes_operators_of_the_platform,
    reset_password_ends_the_sessions_and_has_to_be_changed,
    suspended_operator_is_refused_on_the_other_instance_until_they_are_resumed,
    removed_operator_is_refused_on_the_other_instance,
    subscription_on_the_other_instance_ends_when_its_code_is_taken_away,
    a_body_that_arrives_after_a_code_was_taken_away_changes_nothing,
    the_code_to_change_operators_does_not_show_their_sessions,
    a_tenant_keeps_an_administrator,
    of_two_last_administrators_one_stays,
    operators_are_listed_and_searched_in_pages,
    values_of_a_page_are_read_once,
    everybody_sees_and_ends_their_own_sessions,
    sessions_of_others_are_ended_by_administrators,
    operators_act_on_the_operators_of_the_tenant_that_they_act_in,
    keys_of_a_removed_operator_and_of_a_token_are_found,
    operators_are_managed_on_the_command_line,
];

/// Adds an operator of the platform who belongs to this tenant, and signs in.
pub async fn platform_operator<'a>(app: &'a App, tenant: &str, codes: &[&str]) -> Operator<'a> {
    let operator = app.operator_of(tenant, &[]).await;
    let username = operator.username.parse().expect("a username");
    let permissions = Some(permissions(codes));
    app.command(Command::PromoteOperator { username, permissions }).await.expect("promoted");
    operator
}

const OPERATOR: &str = "id username isPlatform permissions suspendedAt tenant { id }";

async fn add(by: &Caller<'_>, username: &str, codes: &[&str], is_platform: bool) -> Answer {
    let document = format!(
        "mutation ($username: String!, $codes: [String!]!, $isPlatform: Boolean!) {{
            addOperator(username: $username, permissions: $codes, isPlatform: $isPlatform) {{
                operator {{ {OPERATOR} }} password enforcement {{ state }} }} }}"
    );
    by.query(&document, json!({ "username": username, "codes": codes, "isPlatform": is_platform })).await
}

async fn set(by: &Caller<'_>, id: &str, codes: &[&str]) -> Answer {
    let document = format!(
        "mutation ($id: ID!, $codes: [String!]!) {{ setOperatorPermissions(id: $id, permissions: $codes) {{
            operator {{ {OPERATOR} }} enforcement {{ state }} }} }}"
    );
    by.query(&document, json!({ "id": id, "codes": codes })).await
}

async fn reset(by: &Caller<'_>, id: &str) -> Answer {
    let document = "mutation ($id: ID!) { resetOperatorPassword(id: $id) { password enforcement { state } } }";
    by.query(document, json!({ "id": id })).await
}

/// `suspendOperator` or `resumeOperator`.
async fn change(by: &Caller<'_>, mutation: &str, id: &str) -> Answer {
    let document = format!(
        "mutation ($id: ID!) {{ {mutation}(id: $id) {{ operator {{ {OPERATOR} }} enforcement {{ state }} }} }}"
    );
    by.query(&document, json!({ "id": id })).await
}

async fn remove(by: &Caller<'_>, id: &str) -> Answer {
    let document = "mutation ($id: ID!) { removeOperator(id: $id) { removedOperatorId enforcement { state } } }";
    by.query(document, json!({ "id": id })).await
}

async fn end_sessions(by: &Caller<'_>, arguments: &str) -> Answer {
    let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
    by.query(&format!("mutation {{ endSessions{arguments} {{ ended enforcement {{ state }} }} }}"), json!({})).await
}

async fn id_of(operator: &Operator<'_>) -> String {
    let answer = operator.query("{ viewer { id } }", json!({})).await;
    answer.data("viewer.id").as_str().expect("an id").to_owned()
}

/// An operator of `acme` who holds all codes of a tenant.
async fn administrator(app: &App) -> Operator<'_> {
    app.operator(&codes_of(false)).await
}

/// The code of a refusal, and the permission that it names.
fn refusal(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.code(), answer.body.pointer("/errors/0/extensions/permission").and_then(Json::as_str))
}

/// The actions and actors of a tenant's log, newest first.
async fn newest_actions(app: &App, tenant: &str, count: usize) -> Vec<(String, String)> {
    let log = app.log_of(tenant).await;
    let text = |value: &Json| value.as_str().expect("text").to_owned();
    let newest = log.iter().rev().take(count);
    newest.map(|entry| (text(&entry["event"]["action"]), text(&entry["event"]["actor"]["name"]))).collect()
}

async fn operator_is_added_with_a_one_time_password(app: App) {
    let other = app.instance(2).await;
    let admin = administrator(&app).await;
    let codes = ["api_key_management:view", "operator_management:view"];
    let added = add(&admin, "Ada", &codes, false).await;
    assert_eq!(added.data("addOperator.operator.username"), "ada");
    assert_eq!(added.data("addOperator.operator.permissions"), &json!(codes));
    assert_eq!(added.data("addOperator.operator.tenant.id"), "acme");
    assert_eq!(added.data("addOperator.enforcement.state"), "ENFORCED");
    let password = added.data("addOperator.password").as_str().expect("a password");
    let log = app.log_of("acme").await;
    let entry = &log.last().expect("an entry")["event"];
    assert_eq!((&entry["action"], &entry["operatorName"]), (&json!("OPERATOR_ADDED"), &json!("ada")));
    assert_eq!(entry["actor"]["name"], admin.username.as_str());
    assert_eq!(entry["permissions"], json!(codes));
    assert!(!json!(log).to_string().contains(password), "the log has no password");
    assert_eq!(add(&admin, "ADA", &[], false).await.code(), Some("NAME_TAKEN"), "a repeat");

    let ada = other.sign_in("ada", password).await;
    let viewer = ada.query("{ viewer { mustChangePassword permissions } }", json!({})).await;
    assert_eq!(viewer.data("viewer.mustChangePassword"), true);
    ada.change_password(password, "a better password than that").await.data("changePassword.token");
    app.sign_in("ada", "a better password than that").await;

    let added = add(&admin, "late", &[], false).await;
    app.clock.advance(Duration::from_hours(24));
    let late = app.anonymous().sign_in("late", added.data("addOperator.password").as_str().expect("text")).await;
    assert_eq!(late.code(), Some("PASSWORD_EXPIRED"));
}

async fn nobody_gives_codes_that_they_do_not_hold(app: App) {
    let admin = app.operator(&["view", "operator_management:edit"]).await;
    let forbidden = |code| (Some("FORBIDDEN"), Some(code));
    let added = add(&admin, "ada", &["api_key_management:view", "api_key_management:delete"], false).await;
    assert_eq!(refusal(&added), forbidden("api_key_management:delete"));
    for (codes, message) in [
        (&["api_key_management:admin"][..], "\"api_key_management:admin\" is not a permission code."),
        (&["tenant_management:view"], "Only an operator of the platform can hold tenant_management:view."),
    ] {
        let refused = add(&admin, "ada", codes, false).await;
        assert_eq!((refused.code(), &refused.error()["message"]), (Some("BAD_USER_INPUT"), &json!(message)));
        let bob = app.operator(&[]).await;
        assert_eq!(set(&admin, &id_of(&bob).await, codes).await.error()["message"], message);
    }
    for bad in ["", "a b", &"a".repeat(65), "é"] {
        assert_eq!(add(&admin, bad, &[], false).await.code(), Some("BAD_USER_INPUT"), "{bad:?}");
    }
    // Codes that an operator holds already are not given, and every code may be taken away.
    let stronger = app.operator(&["delete", "view", "edit"]).await;
    let id = id_of(&stronger).await;
    let kept = ["api_key_management:view", "api_key_management:delete"];
    assert_eq!(set(&admin, &id, &kept).await.data("setOperatorPermissions.operator.permissions"), &json!(kept));
    assert_eq!(refusal(&set(&admin, &id, &["api_key_management:edit"]).await), forbidden("api_key_management:edit"));
    let before = app.log_of("acme").await.len();
    assert_eq!(set(&admin, &id, &kept).await.data("setOperatorPermissions.enforcement.state"), "ENFORCED");
    assert_eq!(app.log_of("acme").await.len(), before, "a repeat changes nothing");
    assert_eq!(refusal(&reset(&admin, &id).await), forbidden("api_key_management:delete"), "or one could act as they");
    assert!(stronger.is_signed_in().await);
}

async fn only_the_platform_changes_operators_of_the_platform(app: App) {
    let admin = administrator(&app).await;
    let ada = platform_operator(&app, "acme", &codes_of(true)).await;
    let id = id_of(&ada).await;
    let refused = (Some("FORBIDDEN"), None);
    assert_eq!(refusal(&add(&admin, "bob", &[], true).await), refused);
    assert_eq!(refusal(&set(&admin, &id, &[]).await), refused);
    assert_eq!(refusal(&reset(&admin, &id).await), refused);
    assert_eq!(refusal(&change(&admin, "suspendOperator", &id).await), refused);
    assert_eq!(refusal(&change(&admin, "resumeOperator", &id).await), refused);
    assert_eq!(refusal(&remove(&admin, &id).await), refused);
    assert_eq!(refusal(&end_sessions(&admin, &format!("operatorId: \"{id}\"")).await), refused);
    let session = sessions_of(&ada).await[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(refusal(&end_sessions(&admin, &format!("sessionId: \"{session}\"")).await), refused);
    assert!(ada.is_signed_in().await);

    let added = add(&ada, "bob", &["tenant_management:view"], true).await;
    assert_eq!(added.data("addOperator.operator.isPlatform"), true);
    let bob = added.data("addOperator.operator.id").as_str().expect("an id");
    assert_eq!(set(&ada, bob, &["tenant_management:edit"]).await.code(), None);
    assert_eq!(change(&ada, "suspendOperator", bob).await.code(), None);
    assert_eq!(remove(&ada, bob).await.data("removeOperator.removedOperatorId"), bob);
}

async fn reset_password_ends_the_sessions_and_has_to_be_changed(app: App) {
    let other = app.instance(2).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view"]).await);
    let id = id_of(&ada).await;
    assert!(ada.at(&other).is_signed_in().await);
    let done = reset(&admin, &id).await;
    assert_eq!(done.data("resetOperatorPassword.enforcement.state"), "ENFORCED");
    assert!(!ada.at(&other).is_signed_in().await && !ada.is_signed_in().await);
    assert_eq!(app.anonymous().sign_in(&ada.username, PASSWORD).await.code(), Some("INVALID_CREDENTIALS"));
    let password = done.data("resetOperatorPassword.password").as_str().expect("a password");
    let ada = app.sign_in(&ada.username, password).await;
    let viewer = ada.query("{ viewer { mustChangePassword } }", json!({})).await;
    assert_eq!(viewer.data("viewer.mustChangePassword"), true);
    let log = app.log_of("acme").await;
    assert!(log.iter().any(|entry| entry["event"]["action"] == "PASSWORD_CHANGED"));
    assert!(!json!(log).to_string().contains(password));
}

async fn suspended_operator_is_refused_on_the_other_instance_until_they_are_resumed(app: App) {
    let other = app.instance(2).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view"]).await);
    let id = id_of(&ada).await;
    assert!(ada.at(&other).is_signed_in().await);
    let mut running = ada.at(&other).subscribe("subscription { viewerChanged { username } }", json!({})).await;
    assert!(matches!(running.event().await, Event::Next(_)));
    let suspended = change(&admin, "suspendOperator", &id).await;
    assert_eq!(suspended.data("suspendOperator.enforcement.state"), "ENFORCED");
    assert!(!suspended.data("suspendOperator.operator.suspendedAt").is_null());
    assert!(!ada.at(&other).is_signed_in().await);
    assert!(matches!(running.end().await.last(), Some(Event::Closed(_))));
    let repeated = change(&admin, "suspendOperator", &id).await;
    assert_eq!(repeated.data("suspendOperator.enforcement.state"), "ENFORCED");
    assert_eq!(other.anonymous().sign_in(&ada.username, PASSWORD).await.code(), Some("FORBIDDEN"));
    assert_eq!(app.anonymous().sign_in(&ada.username, "wrong").await.code(), Some("INVALID_CREDENTIALS"));
    let resumed = change(&admin, "resumeOperator", &id).await;
    assert!(resumed.data("resumeOperator.operator.suspendedAt").is_null());
    assert_eq!(change(&admin, "resumeOperator", &id).await.code(), Some("NOT_SUSPENDED"));
    assert!(!ada.is_signed_in().await, "the sessions have ended");
    // Refused sign-ins are written after their response.
    let actions = newest_actions(&app, "acme", 4).await;
    let by_admin = |action: &str| (action.to_owned(), admin.username.clone());
    assert!(actions.contains(&by_admin("OPERATOR_RESUMED")), "{actions:?}");
    assert!(actions.iter().all(|(action, _)| action != "SIGNED_IN"));
    other.sign_in(&ada.username, PASSWORD).await;
}

async fn removed_operator_is_refused_on_the_other_instance(app: App) {
    let other = app.instance(2).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view"]).await);
    let id = id_of(&ada).await;
    assert!(ada.at(&other).is_signed_in().await);
    let removed = remove(&admin, &id).await;
    assert_eq!(removed.data("removeOperator.removedOperatorId"), id.as_str());
    assert_eq!(removed.data("removeOperator.enforcement.state"), "ENFORCED");
    assert!(!ada.at(&other).is_signed_in().await);
    for answer in [remove(&admin, &id).await, set(&admin, &id, &[]).await, reset(&admin, &id).await] {
        assert_eq!(answer.code(), Some("NOT_FOUND"));
    }
    assert_eq!(newest_actions(&app, "acme", 1).await, [("OPERATOR_REMOVED".to_owned(), admin.username.clone())]);
}

async fn subscription_on_the_other_instance_ends_when_its_code_is_taken_away(app: App) {
    let other = app.instance(2).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view", "edit"]).await);
    let id = id_of(&ada).await;
    let after = ada.audit_cursor().await;
    admin.create_system("Billing").await;
    let document = format!("subscription {{ systemChanged(after: \"{after}\") {{ kind }} }}");
    let mut running = ada.at(&other).subscribe(&document, json!({})).await;
    assert!(matches!(running.event().await, Event::Next(_)));
    let done = set(&admin, &id, &["api_key_management:edit"]).await;
    assert_eq!(done.data("setOperatorPermissions.enforcement.state"), "ENFORCED");
    assert_eq!(running.event().await, Event::Error("FORBIDDEN".to_owned()));
    assert_eq!(newest_actions(&app, "acme", 1).await, [("PERMISSIONS_CHANGED".to_owned(), admin.username.clone())]);
}

async fn a_body_that_arrives_after_a_code_was_taken_away_changes_nothing(app: App) {
    let (admin, ada) = (administrator(&app).await, app.operator(&["view", "operator_management:edit"]).await);
    let id = id_of(&ada).await;
    let document = r#"mutation { createServiceToken(name: "Late", permissions: []) { token } }"#;
    let document = json!({ "query": document }).to_string();
    let ((began, begun), (release, released)) = (oneshot::channel(), oneshot::channel());
    let body = Body::from_stream(stream::once(async move {
        began.send(()).expect("awaited");
        released.await.expect("sent");
        Ok::<_, Infallible>(document)
    }));
    let late = ada.begin(Method::POST, "/graphql", &[("content-type", "application/json")], body);
    let taking = async {
        begun.await.expect("the body is read");
        let taken = set(&admin, &id, &["api_key_management:view"]).await;
        assert_eq!(taken.data("setOperatorPermissions.enforcement.state"), "ENFORCED");
        release.send(()).expect("the body is still read");
    };
    let (late, ()) = tokio::join!(late, taking);
    assert_eq!(refusal(&Answer::read(late).await), (Some("FORBIDDEN"), Some("operator_management:edit")));
}

async fn the_code_to_change_operators_does_not_show_their_sessions(app: App) {
    let (admin, ada) = (app.operator(&["operator_management:edit", "view"]).await, app.operator(&["view"]).await);
    let document = |id: &str, field: &str| {
        format!(
            r#"mutation {{ setOperatorPermissions(id: "{id}", permissions: ["api_key_management:view"]) {{
                operator {{ {field} }} }} }}"#
        )
    };
    let id = id_of(&ada).await;
    for field in ["sessions { id }", "lastActiveAt"] {
        let refused = admin.query(&document(&id, field), json!({})).await;
        assert_eq!(refusal(&refused), (Some("FORBIDDEN"), Some("operator_management:view")));
    }
}

async fn a_tenant_keeps_an_administrator(app: App) {
    let admin = administrator(&app).await;
    let id = id_of(&admin).await;
    let view = ["api_key_management:view"];
    let last = Some("LAST_ADMINISTRATOR");
    // Neither a suspended operator, nor one of another tenant, nor a token counts.
    let suspended = add(&admin, "suspended", &["operator_management:edit"], false).await;
    let suspended = suspended.data("addOperator.operator.id").as_str().expect("an id").to_owned();
    change(&admin, "suspendOperator", &suspended).await.data("suspendOperator.enforcement");
    app.operator_of("other", &["operator_management:edit"]).await;
    let platform = platform_operator(&app, "platform", &codes_of(true)).await.clone().with("x-keymark-tenant", "acme");
    for caller in [&*admin, &platform] {
        assert_eq!(set(caller, &id, &view).await.code(), last);
        assert_eq!(change(caller, "suspendOperator", &id).await.code(), last);
        assert_eq!(remove(caller, &id).await.code(), last);
    }
    assert_eq!(set(&admin, &id, &["operator_management:edit"]).await.code(), None, "the others may go");
    admin.may(&codes_of(false)).await;
    change(&admin, "resumeOperator", &suspended).await.data("resumeOperator.enforcement");
    assert_eq!(set(&admin, &id, &view).await.code(), None, "there is another one");
    // The command line may take away the last one.
    let username = "suspended".parse().expect("a username");
    app.command(Command::RemoveOperator { username }).await.expect("removed");
}

async fn of_two_last_administrators_one_stays(app: App) {
    let other = app.instance(2).await;
    for round in 0..6 {
        let tenant = format!("tenant-{round}");
        let codes = codes_of(false);
        let (ada, bob) = (app.operator_of(&tenant, &codes).await, app.operator_of(&tenant, &codes).await);
        let (first, second) = (id_of(&ada).await, id_of(&bob).await);
        let bob_elsewhere = bob.at(&other);
        let answers = match round % 3 {
            0 => tokio::join!(remove(&ada, &first), remove(&bob_elsewhere, &second)),
            1 => tokio::join!(set(&ada, &first, &[]), change(&bob_elsewhere, "suspendOperator", &second)),
            _ => tokio::join!(remove(&ada, &second), set(&bob_elsewhere, &first, &[])),
        };
        let tenant = tenant.parse().expect("a tenant");
        let left = app.store.list_operators(Some(&tenant)).await.expect("read");
        let left = left.iter().filter(|operator| operator.is_administrator(Timestamp::default())).count();
        assert_eq!(left, 1, "{round}: {answers:?}");
    }
}

async fn values_of_a_page_are_read_once(app: App) {
    let switch = Switch::default();
    let served = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    served.wait_for_cache().await;
    let admin = app.operator(&["view", "create", "operator_management:view", "operator_management:edit"]).await;
    for username in ["zoe", "ada", "bob"] {
        add(&admin, username, &[], false).await.data("addOperator.operator");
    }
    admin.create_system("Billing").await;
    let admin = admin.at(&served);
    let counted = switch.calls(&["count_systems"]);
    let counts = admin.query("{ operators { nodes { tenant { systemCount } } } }", json!({})).await;
    assert_eq!(counts.data("operators.nodes"), &json!(vec![json!({ "tenant": { "systemCount": 1 } }); 4]));
    assert_eq!(switch.calls(&["count_systems"]), counted + 1);
    let read = switch.calls(&["find_arrivals"]);
    switch.fail();
    let uses = admin.query("{ operators { nodes { lastActiveAt } } }", json!({})).await;
    assert_eq!(uses.body["errors"].as_array().map(Vec::len), Some(4), "{}", uses.body);
    assert_eq!(switch.calls(&["find_arrivals"]), read + 1);
}

async fn operators_are_listed_and_searched_in_pages(app: App) {
    let other = app.instance(2).await;
    let admin = administrator(&app).await;
    for username in ["zoe", "ada", "Alan", "bob"] {
        add(&admin, username, &[], false).await.data("addOperator.operator");
    }
    app.operator_of("other", &[]).await;
    let list = async |at: &App, arguments: &str| {
        let document = format!(
            "{{ operators({arguments}) {{ totalCount nodes {{ username lastActiveAt tenant {{ id }} }}
                edges {{ cursor node {{ username }} }} pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"
        );
        admin.at(at).query(&document, json!({})).await.data("operators").clone()
    };
    let names = |list: &Json| -> Vec<String> {
        let nodes = list["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| node["username"].as_str().expect("a name").to_owned()).collect()
    };
    let all = list(&other, "first: 10").await;
    assert_eq!(all["totalCount"], 5);
    assert_eq!(names(&all), ["ada", "alan", "bob", &admin.username, "zoe"]);
    let nodes = all["nodes"].as_array().expect("nodes");
    let used: Vec<_> = nodes.iter().map(|node| !node["lastActiveAt"].is_null()).collect();
    assert_eq!(used, [false, false, false, true, false]);
    let first = list(&app, "first: 2").await;
    assert_eq!((names(&first), &first["pageInfo"]["hasNextPage"]), (vec!["ada".into(), "alan".into()], &json!(true)));
    let cursor = first["pageInfo"]["endCursor"].as_str().expect("a cursor");
    assert_eq!(names(&list(&other, &format!("first: 2, after: \"{cursor}\"")).await), ["bob", &admin.username]);
    assert_eq!(names(&list(&app, "last: 1").await), ["zoe"]);
    let found = list(&app, "search: \"A\"").await;
    assert_eq!((&found["totalCount"], names(&found)[0].as_str()), (&json!(3), "ada"), "{found}");
    assert_eq!(names(&list(&app, "search: \".*\"").await), [""; 0], "no character has a special meaning");
    let answer = admin.query(&format!("{{ serviceTokens(after: \"{cursor}\") {{ totalCount }} }}"), json!({})).await;
    assert_eq!(answer.code(), Some("BAD_USER_INPUT"), "a cursor of another list");
    let id = id_of(&admin).await;
    let node = format!("{{ node(id: \"{id}\") {{ id ... on Operator {{ username sessions {{ isCurrent }} }} }} }}");
    let node = admin.query(&node, json!({})).await;
    assert_eq!(node.data("node.username"), admin.username.as_str());
    assert_eq!(node.data("node.sessions"), &json!([{ "isCurrent": true }]));
    let viewer = app.operator(&["view"]).await;
    let refused = viewer.query(&format!("{{ node(id: \"{id}\") {{ id }} }}"), json!({})).await;
    assert_eq!(refusal(&refused), (Some("FORBIDDEN"), Some("operator_management:view")));
}

async fn sessions_of(operator: &Operator<'_>) -> Vec<Json> {
    let document = "{ viewer { sessions { id startedAt lastActiveAt expiresAt network userAgent isCurrent } } }";
    operator.query(document, json!({})).await.data("viewer.sessions").as_array().expect("a list").clone()
}

async fn everybody_sees_and_ends_their_own_sessions(app: App) {
    let other = app.instance(2).await;
    let first = app.operator(&[]).await;
    app.clock.advance(Duration::from_mins(3));
    let browser = app.anonymous().from("2001:db8:1:2:3::4").with("user-agent", "Mozilla/5.0 (X11)");
    let opened = browser.sign_in(&first.username, PASSWORD).await;
    let browser = app.anonymous().bearing(opened.data("signIn.token").as_str().expect("a token"));
    app.clock.advance(Duration::from_mins(2));
    let sessions = sessions_of(&first).await;
    assert_eq!(sessions.len(), 2);
    let [newest, own] = [&sessions[0], &sessions[1]];
    assert_eq!((&newest["network"], &newest["userAgent"]), (&json!("2001:db8:1:2::"), &json!("Mozilla/5.0 (X11)")));
    assert_eq!((&newest["isCurrent"], &own["isCurrent"]), (&json!(false), &json!(true)));
    assert_eq!(
        (&newest["startedAt"], &newest["lastActiveAt"]),
        (&json!("2023-11-14T22:16:20.000Z"), &newest["startedAt"])
    );
    assert_eq!((&own["network"], &own["lastActiveAt"]), (&json!("127.0.0.1"), &json!("2023-11-14T22:18:20.000Z")));

    let id = newest["id"].as_str().expect("an id");
    let node = first.query(&format!("{{ node(id: \"{id}\") {{ id }} }}"), json!({})).await;
    assert_eq!(refusal(&node).1, Some("api_key_management:view"));
    let ended = end_sessions(&first, &format!("sessionId: \"{id}\"")).await;
    assert_eq!(ended.data("endSessions"), &json!({ "ended": 1, "enforcement": { "state": "ENFORCED" } }));
    assert_eq!(browser.query("{ viewer { id } }", json!({})).await.status, 401);
    assert_eq!(end_sessions(&first, &format!("sessionId: \"{id}\"")).await.code(), Some("NOT_FOUND"), "a repeat");
    assert_eq!(end_sessions(&first, "").await.data("endSessions.ended"), 0);
    let [second, third] =
        [app.sign_in(&first.username, PASSWORD).await, other.sign_in(&first.username, PASSWORD).await];
    assert_eq!(end_sessions(&first, "").await.data("endSessions.ended"), 2, "all but the current one");
    assert!(first.is_signed_in().await && !second.at(&other).is_signed_in().await && !third.is_signed_in().await);
    let log = app.log_of("acme").await;
    let entry = &log.last().expect("an entry")["event"];
    assert_eq!((&entry["action"], &entry["count"]), (&json!("SESSIONS_ENDED"), &json!(2)));
    let own = id_of(&first).await;
    assert_eq!(end_sessions(&first, &format!("operatorId: \"{own}\"")).await.data("endSessions.ended"), 1);
    assert!(!first.at(&other).is_signed_in().await, "the current one too");
}

async fn sessions_of_others_are_ended_by_administrators(app: App) {
    let other = app.instance(2).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view"]).await);
    let again = app.sign_in(&ada.username, PASSWORD).await;
    let id = id_of(&ada).await;
    let session =
        sessions_of(&ada).await.into_iter().find(|session| session["isCurrent"] == true).expect("it is current");
    let session = session["id"].as_str().expect("an id").to_owned();
    let by_session = format!("sessionId: \"{session}\"");
    let plain = app.operator(&["view", "operator_management:view"]).await;
    assert_eq!(end_sessions(&plain, &by_session).await.code(), Some("NOT_FOUND"), "as one that never was");
    let refused = end_sessions(&plain, &format!("operatorId: \"{id}\"")).await;
    assert_eq!(refusal(&refused), (Some("FORBIDDEN"), Some("operator_management:edit")));
    let both = format!("operatorId: \"{id}\", {by_session}");
    assert_eq!(end_sessions(&admin, &both).await.code(), Some("BAD_USER_INPUT"));
    let node =
        plain.query(&format!("{{ node(id: \"{session}\") {{ ... on Session {{ isCurrent }} }} }}"), json!({})).await;
    assert_eq!(node.data("node.isCurrent"), false);
    assert_eq!(end_sessions(&admin, &by_session).await.data("endSessions.ended"), 1);
    assert!(!ada.at(&other).is_signed_in().await && again.at(&other).is_signed_in().await);
    let ended = end_sessions(&admin, &format!("operatorId: \"{id}\"")).await;
    assert_eq!(ended.data("endSessions"), &json!({ "ended": 1, "enforcement": { "state": "ENFORCED" } }));
    assert!(!again.at(&other).is_signed_in().await);
    let by_admin = ("SESSIONS_ENDED".to_owned(), admin.username.clone());
    assert_eq!(newest_actions(&app, "acme", 1).await, [by_admin]);
    app.sign_in(&ada.username, PASSWORD).await;
}

async fn operators_act_on_the_operators_of_the_tenant_that_they_act_in(app: App) {
    let platform = platform_operator(&app, "platform", &codes_of(true)).await;
    let (admin, ada) = (administrator(&app).await, app.operator(&["view"]).await);
    let id = id_of(&ada).await;
    assert_eq!(change(&platform, "suspendOperator", &id).await.code(), Some("NOT_FOUND"), "at home");
    let away = platform.clone().with("x-keymark-tenant", "acme");
    let listed = away.query("{ operators { nodes { username } } }", json!({})).await;
    assert_eq!(listed.data("operators.nodes").as_array().map(Vec::len), Some(2));
    change(&away, "suspendOperator", &id).await.data("suspendOperator.enforcement");
    let entry = app.log_of("acme").await.pop().expect("an entry")["event"].clone();
    assert_eq!((&entry["action"], &entry["actor"]["isPlatform"]), (&json!("OPERATOR_SUSPENDED"), &json!(true)));
    // Their own sessions are at home, wherever they act.
    app.sign_in(&platform.username, PASSWORD).await;
    assert_eq!(end_sessions(&away, "").await.data("endSessions.ended"), 1);
    assert_eq!(newest_actions(&app, "platform", 1).await, [("SESSIONS_ENDED".to_owned(), platform.username.clone())]);
    // A token acts by its codes, and has no sessions.
    let document =
        "mutation { createServiceToken(name: \"Backend\", permissions: [\"operator_management:edit\"]) { token } }";
    let token = admin.query(document, json!({})).await;
    let token = app.anonymous().bearing(token.data("createServiceToken.token").as_str().expect("a token"));
    assert_eq!(change(&token, "resumeOperator", &id).await.code(), None);
    assert_eq!(newest_actions(&app, "acme", 1).await, [("OPERATOR_RESUMED".to_owned(), "Backend".to_owned())]);
    assert_eq!(refusal(&end_sessions(&token, "").await), (Some("FORBIDDEN"), None));
    assert_eq!(token.query("{ viewer { sessions { id } } }", json!({})).await.data("viewer.sessions"), &json!([]));
}

async fn keys_of_a_removed_operator_and_of_a_token_are_found(app: App) {
    let (admin, ada) = (administrator(&app).await, app.operator(&["view", "create"]).await);
    let system = ada.create_system("Billing").await;
    ada.generate_key(&system.id).await;
    let id = id_of(&ada).await;
    let document = "mutation { createServiceToken(name: \"Backend\", permissions: [\"api_key_management:create\"]) {
        token serviceToken { id } } }";
    let created = admin.query(document, json!({})).await;
    let token = app.anonymous().bearing(created.data("createServiceToken.token").as_str().expect("a token"));
    let payroll = admin.create_system("Payroll").await;
    let generate = format!("mutation {{ generateKey(systemId: \"{}\") {{ apiKey }} }}", payroll.id);
    token.query(&generate, json!({})).await.data("generateKey.apiKey");
    remove(&admin, &id).await.data("removeOperator.enforcement");
    let by_token = created.data("createServiceToken.serviceToken.id").as_str().expect("an id");
    for (id, name) in [(id.as_str(), "Billing"), (by_token, "Payroll")] {
        let document = format!("{{ systems(filter: {{ generatedById: \"{id}\" }}) {{ nodes {{ name }} }} }}");
        assert_eq!(admin.query(&document, json!({})).await.data("systems.nodes"), &json!([{ "name": name }]), "{id}");
    }
}

async fn operators_are_managed_on_the_command_line(app: App) {
    let run = async |arguments: &[&str]| {
        let done = app.cli_with(&[], &[&["operator"], arguments, &["--as", "root"]].concat()).await;
        let (out, error) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        if done.status.success() { Ok(out) } else { Err(error) }
    };
    app.add_operator("acme", "ada", &[]).await;
    let codes = codes_of(false).join(",");
    assert!(run(&["set-permissions", "ada", "all"]).await.unwrap().ends_with(&format!("\t{codes}\n")));
    let short = run(&["set-permissions", "ada", "view,operators:view"]).await.unwrap();
    assert!(short.ends_with("\tapi_key_management:view,operator_management:view\n"), "{short}");
    let refused = run(&["set-permissions", "ada", "tenants:view"]).await.unwrap_err();
    assert!(refused.contains("Only an operator of the platform can hold tenant_management:view."), "{refused}");
    let refused = run(&["add", "bob", "--permissions", "tenants:edit"]).await.unwrap_err();
    assert!(refused.contains("Only an operator of the platform can hold tenant_management:edit."), "{refused}");
    let all = codes_of(true).join(",");
    assert!(run(&["promote", "ada"]).await.unwrap().ends_with(&format!("\t{all}\tplatform\n")));
    run(&["set-permissions", "ada", "none"]).await.unwrap();
    assert!(run(&["set-permissions", "ada", "all"]).await.unwrap().ends_with(&format!("\t{all}\tplatform\n")));
    assert_eq!(run(&["sessions", "ada"]).await.unwrap(), "");
    assert_eq!(run(&["end-sessions", "ada"]).await.unwrap(), "ended 0 sessions of ada\n");
    // In this process, by whose clock the session is open.
    let ada = app.sign_in("ada", PASSWORD).await;
    let username = || "ada".parse().expect("a username");
    let sessions = app.command(Command::ListSessions { username: username() }).await.unwrap();
    assert!(sessions.ends_with("\t127.0.0.1\tunknown client\n"), "{sessions}");
    let ended = app.command(Command::EndSessions { username: username() }).await;
    assert_eq!(ended, Ok("ended 1 sessions of ada\n".to_owned()));
    assert!(!ada.is_signed_in().await);
    let suspended = run(&["suspend", "ada"]).await.unwrap();
    assert!(suspended.lines().next().unwrap().ends_with("\tplatform\tsuspended"), "{suspended}");
    assert!(run(&["list"]).await.unwrap().ends_with("\tplatform\tsuspended\n"));
    assert_eq!(app.anonymous().sign_in("ada", PASSWORD).await.code(), Some("FORBIDDEN"));
    assert!(run(&["resume", "ada"]).await.unwrap().ends_with("\tplatform\n"));
    assert!(run(&["resume", "ada"]).await.unwrap_err().contains("not suspended"));
    assert!(run(&["suspend", "nobody"]).await.unwrap_err().contains("operator nobody not found"));
    let by_root = |action: &str| (action.to_owned(), "command line (root)".to_owned());
    assert_eq!(newest_actions(&app, "acme", 2).await[0], by_root("OPERATOR_RESUMED"));
    let log = newest_actions(&app, "acme", 20).await;
    for action in ["OPERATOR_PROMOTED", "OPERATOR_SUSPENDED", "PERMISSIONS_CHANGED"] {
        assert!(log.contains(&by_root(action)), "{action}: {log:?}");
    }
}

async fn entries_of_commands_have_the_name_of_their_user(app: App) {
    /// Variables, arguments, and the name that they result in.
    type User<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let users: [User<'_>; 4] = [
        (&[("USER", "root"), ("KEYMARK_OPERATOR", "other")], &["--as", "Ada (on call)"], "Ada (on call)"),
        (&[("USER", "root"), ("KEYMARK_OPERATOR", "grace")], &[], "grace"),
        (&[("USER", "linus"), ("LOGNAME", "other")], &[], "linus"),
        (&[("LOGNAME", "ken")], &[], "ken"),
    ];
    for (number, (variables, arguments, name)) in users.into_iter().enumerate() {
        let username = format!("added-{number}");
        let added = app.cli_with(variables, &[&["operator", "add", &username], arguments].concat()).await;
        assert!(added.status.success(), "{added:?}");
        let actor = app.log_of("default").await.pop().expect("an entry")["event"]["actor"].clone();
        assert_eq!(actor, json!({ "kind": "COMMAND_LINE", "name": format!("command line ({name})") }));
    }
    let exported = app.cli_with(&[], &["audit", "export", "--as", "auditor"]).await;
    assert!(exported.status.success(), "{exported:?}");
    let entry = app.log_of("default").await.pop().expect("an entry");
    assert_eq!(entry["event"]["actor"]["name"], "command line (auditor)");
    for bad in ["", " ada", "a\nb", "a\u{202e}b", &"a".repeat(65)] {
        let refused = app.cli(&["operator", "list", "--as", bad]).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("a name is 1 to 64 printable characters"), "{said}");
    }
}
