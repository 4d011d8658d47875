//! The schema: `schema.graphql` is up to date, and everything in it is described.

use std::path::Path;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeDefinition, TypeKind, TypeSystemDefinition};

use keymark::graphql::limits::{DEFAULT_PAGE_SIZE, Limits, MAX_PAGE_SIZE};
use keymark::http::PublicFeatures;

use crate::support::actors::{App, Setup};

fn definitions() -> Vec<TypeSystemDefinition> {
    parse_schema(keymark::graphql::sdl()).expect("the schema parses").definitions
}

fn types() -> impl Iterator<Item = TypeDefinition> {
    definitions().into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node),
        _ => None,
    })
}

#[test]
fn schema_graphql_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let served = keymark::graphql::sdl();
    if let Some((number, (was, is))) = (1..).zip(kept.lines().zip(served.lines())).find(|(_, (was, is))| was != is) {
        panic!("schema.graphql, line {number}: `{was}` is now `{is}`.\nRun: cargo run -- schema > schema.graphql");
    }
    assert_eq!(kept, served, "schema.graphql is out of date.\nRun: cargo run -- schema > schema.graphql");
}

#[tokio::test]
async fn schema_graphql_is_served_unless_introspection_is_off() {
    let app = App::embedded().await;
    let answer = app.anonymous().get("/schema.graphql").await;
    assert_eq!(answer.text, keymark::graphql::sdl());

    let hidden = Setup {
        features: PublicFeatures { introspection: false, graphiql: false, answer_bytes: 1 << 20 },
        ..Setup::default()
    };
    let app = App::embedded_with(hidden).await;
    assert_eq!(app.anonymous().get("/schema.graphql").await.status, 404);
    let answer = app.anonymous().query("{ __schema { types { name } } }", serde_json::json!({})).await;
    assert!(!answer.text.contains("createSystem") && !answer.text.contains("SystemConnection"), "{}", answer.text);
}

#[test]
fn every_type_field_argument_and_value_is_described() {
    let mut bare = Vec::new();
    let mut check = |what: String, described: bool| {
        if !described {
            bare.push(what);
        }
    };
    for definition in types() {
        let of = definition.name.node.as_str();
        check(of.to_owned(), definition.description.is_some());
        match &definition.kind {
            TypeKind::Object(_) | TypeKind::Interface(_) => {
                let (TypeKind::Object(async_graphql::parser::types::ObjectType { fields, .. })
                | TypeKind::Interface(async_graphql::parser::types::InterfaceType { fields, .. })) = &definition.kind
                else {
                    unreachable!("matched above")
                };
                for field in fields.iter().map(|field| &field.node) {
                    let name = field.name.node.as_str();
                    check(format!("{of}.{name}"), field.description.is_some());
                    for argument in field.arguments.iter().map(|argument| &argument.node) {
                        check(format!("{of}.{name}({})", argument.name.node), argument.description.is_some());
                    }
                }
            }
            TypeKind::Enum(values) => {
                for value in values.values.iter().map(|value| &value.node) {
                    check(format!("{of}.{}", value.value.node), value.description.is_some());
                }
            }
            TypeKind::InputObject(object) => {
                for field in object.fields.iter().map(|field| &field.node) {
                    check(format!("{of}.{}", field.name.node), field.description.is_some());
                }
            }
            TypeKind::Scalar | TypeKind::Union(_) => {}
        }
    }
    assert!(bare.is_empty(), "without a description: {bare:#?}");
}

/// Introspection does not show directives, so the description names the code too.
#[test]
fn description_of_a_root_field_names_its_permission_code() {
    let mut checked = 0;
    for definition in types().filter(|d| ["Query", "Mutation", "Subscription"].contains(&d.name.node.as_str())) {
        let TypeKind::Object(object) = &definition.kind else { panic!("a root type is an object") };
        for field in object.fields.iter().map(|field| &field.node) {
            for directive in field.directives.iter().filter(|d| d.node.name.node == "requiresPermission") {
                let code = directive.node.get_argument("code").expect("a code").node.to_string();
                let description = &field.description.as_ref().expect("a description").node;
                let code = format!("`{}`", code.trim_matches('"'));
                assert!(description.contains(&code), "{}: {description}", field.name.node);
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no field has a directive");
}

#[test]
fn descriptions_state_the_limits_that_the_server_applies() {
    let Limits { document_bytes, root_fields, depth, cost, .. } = Limits::default();
    let description = |name: &str| {
        let definition = types().find(|definition| definition.name.node == name).expect("the type exists");
        definition.description.expect("a description").node.replace('\n', " ")
    };
    let query = description("Query");
    for limit in [
        format!("{} KiB", document_bytes / 1024),
        format!("{root_fields} root fields"),
        format!("{depth} levels of nested fields"),
        format!("{},000 fields", cost / 1000),
    ] {
        assert!(query.contains(&limit), "Query: {limit}");
    }
    let sizes = format!("1 to {MAX_PAGE_SIZE}. Defaults to {DEFAULT_PAGE_SIZE}");
    for field in ["systems", "auditLog"] {
        let query = types().find(|definition| definition.name.node == "Query").expect("the type exists");
        let TypeKind::Object(object) = query.kind else { panic!("a root type is an object") };
        let field = object.fields.into_iter().find(|f| f.node.name.node == field).expect("the field exists").node;
        let first = field.arguments.into_iter().find(|argument| argument.node.name.node == "first").expect("`first`");
        let description = first.node.description.expect("a description").node;
        assert!(description.contains(&sizes), "{}: {description}", field.name.node);
    }
}
