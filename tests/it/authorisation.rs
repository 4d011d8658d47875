//! Permissions: every root field of the schema, called with and without the permission that it requires.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, Type, TypeKind, TypeSystemDefinition};
use keymark::graphql::permissions::PUBLIC;
use serde_json::json;

use crate::support::actors::{App, Operator};
use crate::support::on_both_stores;
use crate::support::sockets::{Event, Socket};

on_both_stores![
    each_field_requires_its_own_permission_and_no_other,
    changed_permissions_take_effect_immediately_on_every_instance,
    subscription_ends_when_its_permission_is_revoked,
];

const CODES: [&str; 4] = ["view", "create", "edit", "delete"];

/// Placeholder for the cursor after which a subscription begins.
const AFTER: &str = "{after}";

/// A root field of the schema.
struct RootField {
    root: String,
    name: String,
    /// The permission code of its directive, without the prefix.
    code: Option<String>,
    /// A selection of the field with arguments of the right types. Its ids are unknown.
    call: String,
}

impl RootField {
    /// `after` is the cursor after which subscriptions begin, so that they have an event right away.
    fn document(&self, after: &str) -> String {
        format!("{} {{ {} }}", self.root.to_lowercase(), self.call.replace(AFTER, after))
    }

    fn is_public(&self) -> bool {
        PUBLIC.contains(&(self.root.as_str(), self.name.as_str()))
    }
}

fn root_fields() -> Vec<RootField> {
    let definitions = parse_schema(keymark::graphql::sdl()).expect("the schema parses").definitions;
    let types: Vec<_> = definitions
        .into_iter()
        .filter_map(|definition| match definition {
            TypeSystemDefinition::Type(definition) => Some(definition.node),
            _ => None,
        })
        .collect();
    let is_composite = |ty: &Type| {
        let mut base = &ty.base;
        while let BaseType::List(item) = base {
            base = &item.base;
        }
        let BaseType::Named(name) = base else { return false };
        let found = types.iter().find(|definition| definition.name.node == *name);
        found.is_some_and(|d| matches!(d.kind, TypeKind::Object(_) | TypeKind::Interface(_)))
    };
    let mut fields = Vec::new();
    for root in ["Query", "Mutation", "Subscription"] {
        let definition = types.iter().find(|definition| definition.name.node == root).expect("a root type");
        let TypeKind::Object(object) = &definition.kind else { panic!("a root type is an object") };
        for field in object.fields.iter().map(|field| &field.node) {
            let directive = field.directives.iter().find(|d| d.node.name.node == "requiresPermission");
            let code = directive.map(|d| {
                let code = d.node.get_argument("code").expect("a code").node.to_string();
                code.trim_matches('"').strip_prefix("api_key_management:").expect("a known code").to_owned()
            });
            let required = field.arguments.iter().filter(|argument| !argument.node.ty.node.nullable);
            let mut arguments: Vec<_> = required
                .map(|argument| {
                    let value = match argument.node.ty.node.base.to_string().as_str() {
                        "ID" => r#""sys_00000000000000000000000000""#,
                        "String" => r#""something""#,
                        other => panic!("no value is known for an argument of type {other}"),
                    };
                    format!("{}: {value}", argument.node.name.node)
                })
                .collect();
            if root == "Subscription" && field.arguments.iter().any(|argument| argument.node.name.node == "after") {
                arguments.push(format!("after: \"{AFTER}\""));
            }
            let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
            let selection = if is_composite(&field.ty.node) { " { __typename }" } else { "" };
            fields.push(RootField {
                root: root.to_owned(),
                name: field.name.node.to_string(),
                code,
                call: format!("{}{arguments}{selection}", field.name.node),
            });
        }
    }
    fields
}

/// Calls the field. Returns the error code of the first response, or `None` if it succeeds.
async fn call(operator: &Operator<'_>, field: &RootField, after: &str) -> Option<String> {
    let document = field.document(after);
    if field.root != "Subscription" {
        return operator.query(&document, json!({})).await.code().map(str::to_owned);
    }
    match operator.subscribe(&document, json!({})).await.event().await {
        Event::Error(code) => Some(code),
        Event::Next(_) => None,
        other => panic!("{}: {other:?}", field.name),
    }
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
            field.code.is_some() != field.is_public(),
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
    let admin = app.operator(&CODES).await;
    let after = cursor_before_changes(&admin, "Billing").await;
    for field in root_fields() {
        let Some(code) = &field.code else { continue };
        let others: Vec<_> = CODES.into_iter().filter(|other| other != code).collect();
        for (held, expected) in [(&[][..], true), (&others, true), (&[code.as_str()], false)] {
            let operator = app.operator(held).await;
            let refused = call(&operator, &field, &after).await.as_deref() == Some("FORBIDDEN");
            assert_eq!(refused, expected, "{}.{} with {held:?}", field.root, field.name);
        }
    }
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
    let admin = app.operator(&CODES).await;
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
