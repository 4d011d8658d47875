//! The limits on documents: hostile documents are refused, and those of real clients pass.

use std::sync::Arc;

use async_graphql::{Request, Variables};
use keymark::graphql::limits::{Document, DocumentError, Documents, Limits};
use serde_json::json;

use super::documents::{self, fan_out, nested};
use super::toy;

/// Bytes of a response to a document within the limits: each of some 2,000 selections may be wrong, and is reported in
/// about 150 bytes.
const MAX_RESPONSE_BYTES: usize = 384 * 1024;

fn cache() -> Documents {
    Documents::new(Limits::default())
}

fn parse(text: &str) -> Result<Arc<Document>, DocumentError> {
    cache().parse(text)
}

/// Passes a document through all limits: of the text, of the parsed document, and of its cost with these variables.
fn admit(text: &str, variables: serde_json::Value) -> Result<(), DocumentError> {
    let documents = cache();
    let document = documents.parse(text)?;
    let operation = document.operation(None)?;
    documents.check_cost(&document, &operation.node, &Variables::from_json(variables))
}

#[test]
fn hostile_documents_are_refused() {
    for (what, text) in documents::hostile() {
        let result = admit(&text, json!({}));
        assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{what}: {result:?}");
    }
}

#[test]
fn too_large_variables_are_refused() {
    let ids = |count: usize| json!({ "v": vec!["00000000000000000000000000"; count], "w": 1 });
    let one = "query ($v: [String]) { items(filter: $v) { totalCount } }";
    let many = format!(
        "query ($v: [String]) {{ nested {{ {} }} }}",
        (0..300).map(|n| format!("a{n}: items(filter: $v) ")).collect::<String>()
    );
    assert_eq!(admit(one, ids(2_000)), Ok(()));
    assert_eq!(admit(&many, ids(100)), Ok(()));
    for (what, text, variables) in [
        ("many values", one, ids(4_000)),
        ("a large text", one, json!({ "v": "x".repeat(256 * 1024) })),
        ("many values in many places", many.as_str(), ids(1_000)),
    ] {
        let result = admit(text, variables);
        assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{what}: {result:?}");
    }
}

#[test]
fn page_sizes_in_variables_are_counted() {
    let row: String = (0..30).map(|n| format!("a{n}: id ")).collect();
    let lists: String = (0..20).map(|n| format!("l{n}: items(first: $n) {{ nodes {{ {row} }} }} ")).collect();
    let text = format!("query ($n: Int) {{ {lists} }}");
    assert_eq!(admit(&text, json!({ "n": 100 })), Ok(()));
    let result = admit(&text, json!({ "n": 200 }));
    assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{result:?}");
}

#[test]
fn too_large_page_counts_as_the_largest() {
    let text = "query ($n: Int) { items(first: $n) { nodes { id } } }";
    assert_eq!(admit(text, json!({ "n": 2_000_000 })), Ok(()));
}

#[test]
fn fragment_cycles_are_invalid() {
    for text in [
        "{ ...a } fragment a on Query { ...a }",
        "{ ...a } fragment a on Query { ...b ...b } fragment b on Query { hello ...a ...a }",
        "{ hello } fragment a on Query { nested { ...b } } fragment b on Nested { nested { ...a } }",
    ] {
        let result = parse(text);
        assert!(matches!(result, Err(DocumentError::Invalid { .. })), "{text}: {result:?}");
    }
}

/// A parser that gives up on a block string may read its quotes as an empty string and parse the rest as tokens.
#[test]
fn unclosed_string_hides_nothing_from_the_limits() {
    let lists = "[".repeat(10_000);
    for text in [
        format!("{{\n  echo(text: [\"\"\"[\" {lists}"),
        format!("{{\n  echo(text: \"\n {lists}"),
        "{\n  echo(text: \"".to_owned(),
    ] {
        let result = parse(&text);
        let Err(DocumentError::Invalid { locations, .. }) = &result else {
            panic!("{result:?}");
        };
        assert_eq!(locations[0].line, 2);
    }
    for text in [
        r#"{ echo(text: "") }"#,
        r#"{ echo(text: "\\") }"#,
        r#"{ echo(text: "\"") }"#,
        r#"{ echo(text: """""") }"#,
        r#"{ echo(text: """ "a" \""" """) }"#,
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn subscription_has_one_root_field() {
    let result = parse("subscription { ...a } fragment a on Updates { count(to: 1) caller }");
    assert!(matches!(result, Err(DocumentError::Invalid { .. })), "{result:?}");
}

/// The introspection query of graphql-js 16 with all options: 15 fields deep.
const INTROSPECTION: &str = r"
query IntrospectionQuery {
  __schema {
    description
    queryType { name kind }
    mutationType { name kind }
    subscriptionType { name kind }
    types { ...FullType }
    directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
  }
}
fragment FullType on __Type {
  kind name description specifiedByURL isOneOf
  fields(includeDeprecated: true) {
    name description
    args(includeDeprecated: true) { ...InputValue }
    type { ...TypeRef }
    isDeprecated deprecationReason
  }
  inputFields(includeDeprecated: true) { ...InputValue }
  interfaces { ...TypeRef }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
  possibleTypes { ...TypeRef }
}
fragment InputValue on __InputValue {
  name description type { ...TypeRef } defaultValue isDeprecated deprecationReason
}
fragment TypeRef on __Type {
  kind name
  ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
    ofType { kind name ofType { kind name ofType { kind name } } } } } } } } }
}";

#[test]
fn documents_of_real_clients_pass() {
    let fields = "id name keyState keyMark revision createdAt updatedAt";
    let entry = "id cursor number occurredAt actor { kind id name } action outcome systemId systemName keyMark \
        previousName errorCode count sourceAddress requestId hash";
    let dashboard = format!(
        "query Dashboard($search: String, $first: Int = 200) {{
            viewer {{ id username tenantId permissions sessionExpiresAt }}
            systems(search: $search, first: $first, orderBy: {{ field: NAME, direction: ASC }}) {{
                edges {{ cursor node {{ __typename ...System }} }} totalCount
                pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
            }}
            auditLog(first: $first) {{ nodes {{ __typename ...Entry }} pageInfo {{ endCursor }} }}
        }}
        fragment System on System {{ {fields} }} fragment Entry on AuditEntry {{ {entry} }}"
    );
    let twenty = |field: &str| {
        let fields: String = (0..20).map(|n| format!("a{n}: {field} ")).collect();
        format!("{{ {fields} }}")
    };
    for text in [
        INTROSPECTION,
        &dashboard,
        &twenty("hello"),
        &twenty(&format!("systems(first: 200) {{ edges {{ cursor node {{ {fields} }} }} totalCount }}")),
        &nested(18),
        &fan_out(2, 4),
    ] {
        assert_eq!(admit(text, json!({})), Ok(()), "{text}");
    }
}

#[tokio::test]
async fn introspection_query_succeeds() {
    let schema = async_graphql::Schema::new(toy::Query, toy::Mutation, toy::Updates);
    let response = schema.execute(INTROSPECTION).await;
    assert_eq!(response.errors, []);
}

/// The benchmark `documents` measures how long these take.
#[tokio::test]
async fn costly_documents_within_the_limits_are_answered_briefly() {
    let schema = async_graphql::Schema::new(toy::Query, toy::Mutation, toy::Updates);
    for (what, text) in documents::costly_to_validate() {
        let document = parse(&text).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let mut request = Request::new(text);
        request.operation_name = documents::operation_name(what);
        request.set_parsed_query(document.parsed().clone());
        let response = serde_json::to_vec(&schema.execute(request).await).expect("JSON");
        println!("{what}: {} bytes", response.len());
        assert!(response.len() <= MAX_RESPONSE_BYTES, "{what}: {} bytes", response.len());
    }
}

#[test]
fn repeated_document_is_not_parsed_again() {
    let documents = cache();
    let first = documents.parse(INTROSPECTION).expect("passes");
    let again = documents.parse(INTROSPECTION).expect("passes");
    assert!(Arc::ptr_eq(&first, &again));
}

#[test]
fn document_in_use_stays_cached() {
    let documents = cache();
    let kept = documents.parse("{ hello }").expect("passes");
    for number in 0..2_000 {
        documents.parse(&format!("{{ a{number}: hello }}")).expect("passes");
        if number % 100 == 0 {
            assert!(Arc::ptr_eq(&kept, &documents.parse("{ hello }").expect("passes")));
        }
    }
}
