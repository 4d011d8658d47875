//! Permissions and tenants: every root field of the schema, called with every set of permission codes, and with the ids of
//! another tenant. The calls are generated from the schema.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use keymark::domain::permissions::Permission;
use serde_json::{Value as Json, json};

use crate::operators::platform_operator;
use crate::support::actors::{ALL, Answer, App, Caller, Operator};
use crate::support::on_both_stores;
use crate::support::root_fields::{Place, RootField, root_fields};
use crate::support::sockets::{Event, Socket};

on_both_stores![
    each_field_requires_its_own_permission_and_no_other,
    ids_of_another_tenant_are_answered_as_ids_that_never_existed,
    subscriptions_to_ids_of_another_tenant_receive_nothing,
    changed_permissions_take_effect_immediately_on_every_instance,
    subscription_ends_when_its_permission_is_revoked,
];

impl RootField {
    /// Whether it is a subscription that cannot begin with an earlier event.
    fn is_quiet(&self) -> bool {
        self.root == "Subscription" && !self.has_argument("after") && !self.is_public()
    }

    /// `after` is the cursor after which subscriptions begin, so that they have an event right away.
    fn document(&self, after: &str) -> String {
        let call = self.plain.clone();
        let begins = self.root == "Subscription" && self.has_argument("after");
        if begins { call.with(format!("after: \"{after}\"")) } else { call }.document(None)
    }
}

/// All codes that an operator of a tenant, or of the platform, can hold.
pub fn codes_of(is_platform: bool) -> Vec<&'static str> {
    let held = Permission::ALL.into_iter().filter(|permission| is_platform || !permission.is_of_platform());
    held.map(Permission::code).collect()
}

/// Sets of these codes: none, each one, each two, all but each one, and all.
fn roles(codes: &[&'static str]) -> Vec<Vec<&'static str>> {
    let singles = codes.iter().map(|code| vec![*code]);
    let pairs = (0..codes.len()).flat_map(|one| (0..one).map(move |other| vec![codes[other], codes[one]]));
    let others = codes.iter().map(|one| codes.iter().copied().filter(|code| code != one).collect());
    [Vec::new(), codes.to_vec()].into_iter().chain(singles).chain(pairs).chain(others).collect()
}

/// Whether the answer refuses the root field, rather than a field within.
fn is_forbidden(answer: &Answer) -> bool {
    let errors = answer.body["errors"].as_array();
    errors
        .into_iter()
        .flatten()
        .any(|error| error["path"].as_array().map(Vec::len) == Some(1) && error["extensions"]["code"] == "FORBIDDEN")
}

/// Calls a subscription. Returns whether it is refused.
async fn is_subscription_forbidden(operator: &Operator<'_>, field: &RootField, after: &str) -> bool {
    match operator.subscribe(&field.document(after), json!({})).await.event().await {
        Event::Error(code) => code == "FORBIDDEN",
        Event::Next(_) => false,
        other => panic!("{}: {other:?}", field.name),
    }
}

/// Creates a service token in the tenant that the administrator acts in.
async fn new_token(administrator: &Caller<'_>, name: &str, codes: &[&str], is_platform: bool) -> String {
    let document = "mutation ($name: String!, $codes: [String!]!, $isPlatform: Boolean!) {
        createServiceToken(name: $name, permissions: $codes, isPlatform: $isPlatform) { token } }";
    let variables = json!({ "name": name, "codes": codes, "isPlatform": is_platform });
    let created = administrator.query(document, variables).await;
    created.data("createServiceToken.token").as_str().expect("a token").to_owned()
}

/// Returns a cursor after which the tenant's log has a change for each subscription.
async fn cursor_before_changes(admin: &Operator<'_>, name: &str) -> String {
    let after = admin.newest_cursor().await;
    let system = admin.create_system(name).await;
    admin.generate_key(&system.id).await;
    after
}

#[test]
fn every_root_field_has_a_permission_or_is_listed_as_public() {
    for field in root_fields() {
        assert!(
            field.codes.is_empty() == field.is_public(),
            "{}.{} needs either @requiresPermission or a place in graphql::permissions::PUBLIC",
            field.root,
            field.name
        );
    }
}

#[tokio::test]
async fn anonymous_caller_reaches_public_fields_only() {
    let app = App::embedded().await;
    for field in root_fields().iter().filter(|field| field.root != "Subscription") {
        let answer = app.anonymous().query(&field.document(""), json!({})).await;
        match (field.is_public(), field.name.as_str()) {
            (true, "viewer" | "signOut") => assert_eq!(answer.code(), None, "{}", field.name),
            (true, "signIn") => assert_eq!(answer.code(), Some("INVALID_CREDENTIALS")),
            _ => assert_eq!(answer.code(), Some("UNAUTHENTICATED"), "{}", field.name),
        }
    }
    let mut socket = Socket::open(app.listen().await, &[], json!({})).await;
    assert_eq!(socket.event().await, Event::Closed(4403), "subscriptions require a session");
}

async fn each_field_requires_its_own_permission_and_no_other(app: App) {
    let admin = app.operator(&codes_of(false)).await;
    let platform = platform_operator(&app, "platform", &codes_of(true)).await;
    let after = cursor_before_changes(&admin, "Billing").await;
    let fields: Vec<_> = root_fields().into_iter().filter(|field| !field.codes.is_empty()).collect();
    let (quiet, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(RootField::is_quiet);
    let quiet: Vec<_> = quiet.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(quiet, ["usageChanged"], "`usage` has its tests");
    let known: BTreeSet<_> = fields.iter().flat_map(|field| &field.codes).map(String::as_str).collect();
    assert_eq!(known, codes_of(true).into_iter().collect(), "each code protects a field");
    let is_allowed = |field: &RootField, held: &[&str]| field.codes.iter().all(|code| held.contains(&code.as_str()));
    for (number, (held, is_platform)) in
        [false, true].iter().flat_map(|kind| roles(&codes_of(*kind)).into_iter().map(|held| (held, *kind))).enumerate()
    {
        let operator = match is_platform {
            false => app.operator(&held).await,
            true => platform_operator(&app, "platform", &held).await,
        };
        let maker: &Caller<'_> = if is_platform { &platform } else { &admin };
        let token = new_token(maker, &format!("Token {number}"), &held, is_platform).await;
        let token = app.anonymous().bearing(&token);
        let mut callers = vec![("operator", (*operator).clone()), ("token", token.clone())];
        if is_platform {
            callers.push(("operator away", operator.clone().with("x-keymark-tenant", "acme")));
            callers.push(("token away", token.with("x-keymark-tenant", "acme")));
        }
        for field in &fields {
            let is_allowed = is_allowed(field, &held);
            if field.root == "Subscription" {
                if !is_platform {
                    let refused = is_subscription_forbidden(&operator, field, &after).await;
                    assert_eq!(refused, !is_allowed, "{} with {held:?}", field.name);
                }
                continue;
            }
            for (kind, caller) in &callers {
                let answer = caller.query(&field.document(&after), json!({})).await;
                assert_eq!(answer.status, StatusCode::OK, "{} by {kind}: {}", field.name, answer.text);
                assert_eq!(is_forbidden(&answer), !is_allowed, "{} by {kind} with {held:?}", field.name);
            }
        }
    }
}

/// Ids and cursors of one tenant, by their kind.
struct Named(BTreeMap<&'static str, String>);

impl Named {
    /// Creates one object of each kind, and reads the ids and cursors that the operator can see.
    async fn by(operator: &Operator<'_>, system_name: &str) -> Self {
        let system = operator.create_system(system_name).await;
        let deleted = operator.create_system(&format!("{system_name} before")).await;
        operator.delete_system(&deleted.id).await;
        operator.generate_key(&system.id).await;
        let username = system.id.clone();
        let document = "mutation ($username: String!, $name: String!) {
            addOperator(username: $username, permissions: []) { operator { id } password }
            createServiceToken(name: $name, permissions: []) { serviceToken { id } }
            createVerifierToken(name: $name) { verifierToken { id } } }";
        let created = operator.query(document, json!({ "username": username, "name": username })).await;
        let made = |path: &str| created.data(path).as_str().expect("text").to_owned();
        let added = operator.app.sign_in(&username, &made("addOperator.password")).await;
        let session = added.query("{ viewer { sessions { id } } }", json!({})).await;
        let document = "{ viewer { id tenantId } systems(first: 1) { edges { cursor } }
            auditLog(first: 1) { nodes { id cursor } } operators(first: 1) { edges { cursor } }
            serviceTokens(first: 1) { edges { cursor } } verifierTokens(first: 1) { edges { cursor } } }";
        let read = operator.query(document, json!({})).await;
        let text = |path: &str| read.data(path).as_str().expect("text").to_owned();
        Self(BTreeMap::from([
            ("system", system.id),
            ("deleted system", deleted.id),
            ("entry", text("auditLog.nodes.0.id")),
            ("operator", text("viewer.id")),
            ("added operator", made("addOperator.operator.id")),
            ("session", session.data("viewer.sessions.0.id").as_str().expect("text").to_owned()),
            ("service token", made("createServiceToken.serviceToken.id")),
            ("verifier token", made("createVerifierToken.verifierToken.id")),
            ("tenant", text("viewer.tenantId")),
            ("system cursor", text("systems.edges.0.cursor")),
            ("entry cursor", text("auditLog.nodes.0.cursor")),
            ("operator cursor", text("operators.edges.0.cursor")),
            ("service token cursor", text("serviceTokens.edges.0.cursor")),
            ("verifier token cursor", text("verifierTokens.edges.0.cursor")),
        ]))
    }

    /// A value of the same form that never existed.
    fn never(kind: &str) -> String {
        let id = |prefix: &str| format!("{prefix}_01hf7yat00000000000000000x");
        match kind {
            "system" | "deleted system" => id("sys"),
            "entry" => id("aud"),
            "operator" | "added operator" => id("op"),
            "service token" | "verifier token" => id("tok"),
            "session" => format!("ses_{}", "0".repeat(64)),
            "tenant" => "never-existed".to_owned(),
            _ => "bmV2ZXIgaXNzdWVk".to_owned(),
        }
    }
}

/// Whether the place takes an id or a cursor.
fn names_something(place: &Place) -> bool {
    place.ty == "ID" || ["after", "before"].contains(&place.path.as_str())
}

async fn ids_of_another_tenant_are_answered_as_ids_that_never_existed(app: App) {
    let theirs = app.operator_of("theirs", &codes_of(false)).await;
    let foreign = Named::by(&theirs, "Billing of theirs").await;
    let key = theirs.generate_key(&theirs.create_system("Payroll of theirs").await.id).await.api_key;
    let before = theirs.find_system(&foreign.0["system"]).await.expect("it exists");
    let ours = app.operator_of("ours", &codes_of(false)).await;
    // Operators of the platform see all tenants, but each of them only by itself.
    let platform = platform_operator(&app, "platform", &codes_of(true)).await;
    let mut callers = vec![(true, platform.clone().with("x-keymark-tenant", "ours"))];
    let all = codes_of(false);
    for held in all.iter().map(|code| vec![*code]).chain([Vec::new(), all.clone()]) {
        callers.push((false, (*app.operator_of("ours", &held).await).clone()));
    }
    let mut tried = Vec::new();
    let is_of_tenants = |field: &RootField| field.codes.iter().any(|code| code.starts_with("tenant_management:"));
    for field in root_fields().iter().filter(|field| field.root != "Subscription" && !is_of_tenants(field)) {
        for place in field.places.iter().filter(|place| names_something(place)) {
            let what = format!("{}({})", field.name, place.path);
            let document = place.document();
            for (sees_tenants, caller) in &callers {
                for (kind, id) in &foreign.0 {
                    if *sees_tenants && *kind == "tenant" {
                        continue;
                    }
                    let foreign = caller.query(&document, json!({ "value": id })).await;
                    let never = caller.query(&document, json!({ "value": Named::never(kind) })).await;
                    assert_eq!((foreign.status, &foreign.text), (never.status, &never.text), "{what}: {kind}");
                    assert!(!foreign.text.contains("of theirs"), "{what}: {}", foreign.text);
                    assert_ne!(foreign.code(), Some("QUERY_TOO_COMPLEX"), "{document}");
                }
            }
            let own = Named::by(&ours, &format!("Billing for {what}")).await;
            let mut found = false;
            // What ends the session that this test needs is tried with another operator.
            for (kind, id) in own.0.iter().filter(|(kind, _)| field.root == "Query" || **kind != "operator") {
                let own = ours.query(&document, json!({ "value": id })).await;
                let never = ours.query(&document, json!({ "value": Named::never(kind) })).await;
                found |= own.text != never.text;
            }
            assert!(found, "{what} finds what the tenant has");
            tried.push(what);
        }
    }
    insta::allow_duplicates! { insta::assert_snapshot!(tried.join("\n"), @"
    systems(filter.generatedById)
    systems(filter.ids)
    systems(after)
    systems(before)
    system(id)
    node(id)
    auditLog(filter.systemId)
    auditLog(filter.actorId)
    auditLog(after)
    auditLog(before)
    operators(after)
    operators(before)
    serviceTokens(after)
    verifierTokens(after)
    renameSystem(id)
    describeSystem(id)
    setExternalId(systemId)
    suspendSystem(id)
    resumeSystem(id)
    deleteSystem(id)
    generateKey(systemId)
    rotateKey(systemId)
    endRotation(systemId)
    setKeyExpiry(systemId)
    revokeKey(systemId)
    rotateServiceToken(id)
    revokeServiceToken(id)
    revokeVerifierToken(id)
    setOperatorPermissions(id)
    resetOperatorPassword(id)
    suspendOperator(id)
    resumeOperator(id)
    removeOperator(id)
    endSessions(operatorId)
    endSessions(sessionId)
    "); }
    assert_eq!(theirs.find_system(&foreign.0["system"]).await, Some(before), "nothing happened to it");
    assert_eq!(app.verifier().code(&key).await, "VALID");
    for parameter in ["systemId", "actorId"] {
        for (kind, id) in &foreign.0 {
            let export = async |id: &str| {
                let answer = ours.get(&format!("/audit/export?format=csv&{parameter}={id}")).await;
                let lines: Vec<_> = answer.text.lines().map(|line| line.split(',').count()).collect();
                (answer.status, lines)
            };
            assert_eq!(export(id).await, export(&Named::never(kind)).await, "{parameter}: {kind}");
        }
    }
}

/// Subscribes to the place with this value, and to all changes, from `after` on. Returns the first event of the first
/// subscription if each value is answered, and otherwise what it receives until the session ends, which is after the
/// other one has received the newest change.
async fn events_of(operator: &Operator<'_>, place: &Place, value: &str, after: &str, newest: &str) -> Vec<Json> {
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(operator.app.listen().await, &[], bearer).await;
    socket.acknowledged().await.expect("acknowledged");
    let all = format!("subscription {{ systemChanged(after: \"{after}\") {{ system {{ name }} }} }}");
    let document = subscription_to(place, after);
    for (id, document, variables) in [("1", document.as_str(), json!({ "value": value })), ("2", &all, json!({}))] {
        let payload = json!({ "query": document, "variables": variables });
        socket.send(json!({ "type": "subscribe", "id": id, "payload": payload })).await;
    }
    let is_answered = ["after", "systemId"].contains(&place.path.as_str());
    let is_newest =
        |message: &Json| message.pointer("/payload/data/systemChanged/system/name").is_some_and(|name| name == newest);
    let mut events = Vec::new();
    let mut signed_out = false;
    while let Ok(message) = socket.receive().await {
        // What ends with the session is not counted: the two subscriptions race to the close of the socket.
        if message["id"] == "1" && !signed_out {
            events.push(message);
            if is_answered {
                return events;
            }
        } else if is_newest(&message) && !is_answered && !signed_out {
            signed_out = true;
            operator.sign_out().await;
        }
    }
    assert!(signed_out, "it received the newest change");
    events
}

/// The document with the variable in this place, which begins after the cursor `after`.
fn subscription_to(place: &Place, after: &str) -> String {
    let call = place.call.clone();
    let call = if place.path == "after" { call } else { call.with(format!("after: \"{after}\"")) };
    call.document(Some(&format!("{}!", place.ty)))
}

async fn subscriptions_to_ids_of_another_tenant_receive_nothing(app: App) {
    let (theirs, author) =
        (app.operator_of("theirs", &codes_of(false)).await, app.operator_of("ours", &codes_of(false)).await);
    let after = author.newest_cursor().await;
    let (foreign, own) = (Named::by(&theirs, "Billing of theirs").await, Named::by(&author, "Billing of ours").await);
    theirs.rename_system(&foreign.0["system"], "Renamed by theirs").await;
    author.rename_system(&own.0["system"], "The newest").await;
    let mut tried = Vec::new();
    // `usage` has the tests of the others.
    for field in root_fields().iter().filter(|field| field.root == "Subscription" && !field.is_quiet()) {
        for place in field.places.iter().filter(|place| names_something(place)) {
            let what = format!("{}({})", field.name, place.path);
            for (kind, id) in &foreign.0 {
                let mut received = Vec::new();
                for value in [id.as_str(), &Named::never(kind)] {
                    let operator = app.operator_of("ours", &ALL).await;
                    received.push(events_of(&operator, place, value, &after, "The newest").await);
                }
                assert_eq!(received[0], received[1], "{what}: {kind}");
                let has_data = |event: &Json| event.pointer("/payload/data").is_some_and(|data| !data.is_null());
                assert!(!received[0].iter().any(has_data), "{what}: {kind}: {received:?}");
                if place.path == "systemId" {
                    let code = received[0][0].pointer("/payload/errors/0/extensions/code");
                    assert_eq!(code, Some(&json!("NOT_FOUND")), "{what}: {kind}: {received:?}");
                }
            }
            let value = match place.path.rsplit('.').next() {
                Some("systemId") => &own.0["system"],
                Some("actorId") => &own.0["operator"],
                Some("after") => &after,
                other => panic!("name a value that the tenant has for {other:?}"),
            };
            let mut live = author.subscribe(&subscription_to(place, &after), json!({ "value": value })).await;
            assert!(matches!(live.event().await, Event::Next(_)), "{what} finds what the tenant has");
            tried.push(what);
        }
    }
    insta::allow_duplicates! { insta::assert_snapshot!(tried.join("\n"), @"
    keyStateChanged(systemId)
    keyStateChanged(after)
    systemChanged(systemId)
    systemChanged(after)
    auditLogAppended(filter.systemId)
    auditLogAppended(filter.actorId)
    auditLogAppended(after)
    "); }
}

#[tokio::test]
async fn refusal_names_the_missing_permission() {
    let app = App::embedded().await;
    let operator = app.operator(&["view", "create", "edit"]).await;
    let answer = operator.try_delete_system("sys_00000000000000000000000000").await;
    insta::assert_json_snapshot!(answer.error(), @r#"
    {
      "extensions": {
        "code": "FORBIDDEN",
        "permission": "api_key_management:delete"
      },
      "message": "This requires the permission code api_key_management:delete. Ask an administrator of your tenant for it."
    }
    "#);
}

async fn changed_permissions_take_effect_immediately_on_every_instance(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&[]).await;
    assert_eq!(operator.at(&other).try_create_system("Billing").await.code(), Some("FORBIDDEN"));
    operator.may(&["create"]).await;
    operator.at(&other).create_system("Billing").await;
    operator.may(&[]).await;
    assert_eq!(operator.at(&other).try_create_system("Payroll").await.code(), Some("FORBIDDEN"));
}

async fn subscription_ends_when_its_permission_is_revoked(app: App) {
    let other = app.instance(2).await;
    let admin = app.operator(&ALL).await;
    for subscription in ["keyStateChanged", "systemChanged", "auditLogAppended"] {
        let operator = app.operator(&["view"]).await;
        let after = cursor_before_changes(&admin, subscription).await;
        let document = format!("subscription {{ {subscription}(after: \"{after}\") {{ cursor }} }}");
        let mut running = operator.at(&other).subscribe(&document, json!({})).await;
        assert!(matches!(running.event().await, Event::Next(_)), "it runs");
        operator.may(&["create", "edit", "delete"]).await;
        let mut event = running.event().await;
        while matches!(event, Event::Next(_)) {
            event = running.event().await;
        }
        assert_eq!(event, Event::Error("FORBIDDEN".to_owned()), "{subscription}");
        assert_eq!(running.event().await, Event::Complete, "and the socket stays open");
    }
}

#[tokio::test]
async fn permissions_are_checked_for_each_operation_of_a_socket() {
    let app = App::embedded().await;
    let operator = app.operator(&["create"]).await;
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(app.listen().await, &[], bearer).await;
    socket.acknowledged().await.expect("acknowledged");
    let create = |name: &str| {
        let query = format!("mutation {{ createSystem(name: \"{name}\") {{ system {{ name }} }} }}");
        json!({ "type": "subscribe", "id": name, "payload": { "query": query } })
    };
    socket.send(create("Billing")).await;
    assert_eq!(socket.event().await.data()["createSystem"]["system"]["name"], "Billing");
    assert_eq!(socket.event().await, Event::Complete);
    operator.may(&["view"]).await;
    socket.send(create("Payroll")).await;
    assert_eq!(socket.event().await, Event::Error("FORBIDDEN".to_owned()));
}
