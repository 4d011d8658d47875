//! Documents that ask for too much, and those that must pass.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::{Request, Variables};
use keymark::graphql::limits::{Document, DocumentError, Documents, Limits};
use serde_json::json;

use super::toy;

fn documents() -> Documents {
    Documents::new(Limits::default())
}

fn parse(text: &str) -> Result<Arc<Document>, DocumentError> {
    documents().parse(text)
}

/// A document's whole way to the resolvers: measured, parsed, weighed with its variables.
fn admit(text: &str, variables: serde_json::Value) -> Result<(), DocumentError> {
    let documents = documents();
    let document = documents.parse(text)?;
    let operation = document.operation(None)?;
    documents.check_cost(&document, &operation.node, &Variables::from_json(variables))
}

/// Within the time that a hostile document may take. Builds for tests are slower than what is delivered.
const DEADLINE: Duration = if cfg!(debug_assertions) { Duration::from_millis(200) } else { Duration::from_millis(10) };

#[track_caller]
fn assert_too_complex(what: &str, text: &str) {
    let start = Instant::now();
    let result = admit(text, json!({}));
    let elapsed = start.elapsed();
    assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{what}: {result:?}");
    assert!(elapsed < DEADLINE, "{what}: {elapsed:?}");
    println!("{what}: {elapsed:?}");
}

/// `{ nested { nested { … name } } }`
fn nested(depth: usize) -> String {
    format!("{}name{}", "{ nested ".repeat(depth) + "{ ", " }".repeat(depth + 1))
}

/// Fragments that each spread the next several times.
fn fan_out(fragments: usize, spreads: usize) -> String {
    let mut text = "{ ...f0 }".to_owned();
    for number in 0..fragments {
        let spread = format!("...f{} ", number + 1).repeat(spreads);
        write!(text, " fragment f{number} on Query {{ {spread}}}").expect("written");
    }
    write!(text, " fragment f{fragments} on Query {{ hello }}").expect("written");
    text
}

#[test]
fn hostile_documents_are_refused_at_once() {
    let aliases = |count: usize| (0..count).map(|n| format!("a{n}:hello ")).collect::<String>();
    let lists = "[".repeat(10_000) + &"]".repeat(10_000);
    for (what, text) in [
        ("ten fragments, each spread eight times", fan_out(10, 8)),
        ("thirty fragments, each spread twice", fan_out(30, 2)),
        ("a fragment spread 1,500 times", fan_out(1, 1_500)),
        ("21 root fields", format!("{{ {} }}", aliases(21))),
        ("21 root fields in a fragment", format!("{{ ...f }} fragment f on Query {{ {} }}", aliases(21))),
        ("21 aliased mutations", format!("mutation {{ {} }}", aliases(21).replace("hello", "set(value: 1)"))),
        ("1,000 aliases", format!("{{ {} }}", aliases(1_000))),
        ("100,000 aliases", format!("{{ {} }}", aliases(100_000))),
        ("1,999 aliases of a leaf", format!("{{ nested {{ {} }} }}", aliases(1_999))),
        ("21 fields deep", nested(21)),
        ("100,000 fields deep", nested(100_000)),
        ("33 inline fragments deep", format!("{}hello{}", "{ ... ".repeat(33) + "{ ", "}".repeat(34))),
        ("11 directives", format!("{{ hello {} }}", "@skip(if: false) ".repeat(11))),
        ("1 MB of directives", format!("{{ hello {} }}", "@a ".repeat(350_000))),
        ("30 kB of directives", format!("{{ hello {} }}", "@a".repeat(15_000))),
        ("101 variables", format!("query ({}) {{ hello }}", (0..101).map(|n| format!("$v{n}: Int ")).collect::<String>())),
        ("3,000 variables", format!("query ({}) {{ hello }}", (0..3_000).map(|n| format!("$v{n}:I")).collect::<String>())),
        ("21 arguments", format!("{{ hello({}) }}", (0..21).map(|n| format!("a{n}: 1 ")).collect::<String>())),
        ("a list of 10,000 items", format!("{{ echo(text: [{}]) }}", "1 ".repeat(10_000))),
        ("10,000 nested lists", format!("{{ echo(text: {lists}) }}")),
        ("a nested type", format!("query ($v: {}) {{ hello }}", lists.replacen(']', "Int]", 1))),
        ("31 operations", (0..31).map(|n| format!("query q{n} {{ hello }} ")).collect()),
        ("101 fragments", (0..101).map(|n| format!("fragment f{n} on Query {{ hello }} ")).collect::<String>() + "{ hello }"),
        ("1 MB of spaces", " ".repeat(1_000_000)),
        ("1 MB of comment", format!("#{}", "x".repeat(1_000_000))),
        ("1 MB of a string", format!("{{ echo(text: \"{}\") }}", "x".repeat(1_000_000))),
        ("1 MB of brackets", "{".repeat(1_000_000)),
        ("an introspection that goes in circles", "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }".to_owned()),
        ("circles behind fragments", "{ __schema { types { ...t } } } fragment t on __Type { fields { type { ...u } } } \
            fragment u on __Type { possibleTypes { interfaces { name } } }".to_owned()),
        ("an introspection of 900 names", format!("{{ __schema {{ types {{ fields {{ args {{ {} }} }} }} }} }}", (0..900).map(|n| format!("a{n}:name ")).collect::<String>())),
        ("20 pages of 200 rows of 26 fields", format!("{{ {} }}", (0..20).map(|n| format!(
            "p{n}: items(first: 200) {{ nodes {{ {} }} }} ", "id ".repeat(26))).collect::<String>())),
        ("pages within pages", "{ items(first: 200) { nodes { items(first: 200) { edges { node { items(last: 100) { nodes { id } } } } } } } }".to_owned()),
    ] {
        assert_too_complex(what, &text);
    }
}

#[test]
fn large_variables_are_refused_at_once() {
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
        let start = Instant::now();
        let result = admit(text, variables);
        let elapsed = start.elapsed();
        assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{what}: {result:?}");
        assert!(elapsed < DEADLINE, "{what}: {elapsed:?}");
    }
}

#[test]
fn page_sizes_in_variables_count() {
    let row: String = (0..30).map(|n| format!("a{n}: id ")).collect();
    let lists: String = (0..20).map(|n| format!("l{n}: items(first: $n) {{ nodes {{ {row} }} }} ")).collect();
    let text = format!("query ($n: Int) {{ {lists} }}");
    assert_eq!(admit(&text, json!({ "n": 100 })), Ok(()));
    let result = admit(&text, json!({ "n": 200 }));
    assert!(matches!(result, Err(DocumentError::TooComplex(_))), "{result:?}");
}

#[test]
fn a_page_that_its_field_refuses_counts_as_the_largest() {
    let text = "query ($n: Int) { items(first: $n) { nodes { id } } }";
    assert_eq!(admit(text, json!({ "n": 2_000_000 })), Ok(()));
}

#[test]
fn fragments_in_a_circle_are_invalid() {
    for text in [
        "{ ...a } fragment a on Query { ...a }",
        "{ ...a } fragment a on Query { ...b ...b } fragment b on Query { hello ...a ...a }",
        "{ hello } fragment a on Query { nested { ...b } } fragment b on Nested { nested { ...a } }",
    ] {
        let result = parse(text);
        assert!(matches!(result, Err(DocumentError::Invalid { .. })), "{text}: {result:?}");
    }
}

/// A parser that gives up on a block string reads its quotes as an empty string, and the rest as it likes.
#[test]
fn nothing_hides_behind_a_string_that_is_not_closed() {
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

/// The query that graphql-js 16 sends with every option on: 15 fields deep.
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
async fn introspection_is_answered() {
    let schema = async_graphql::Schema::new(toy::Query, toy::Mutation, toy::Updates);
    let response = schema.execute(INTROSPECTION).await;
    assert_eq!(response.errors, []);
}

/// What the limits let pass must not keep the validator busy, however it is made up.
#[tokio::test]
async fn documents_within_the_limits_are_validated_at_once() {
    let schema = async_graphql::Schema::new(toy::Query, toy::Mutation, toy::Updates);
    let spread = "...f ".repeat(19);
    let wide = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<String>();
    for (what, text) in [
        (
            "unknown fields with long names",
            format!("{{ nested {{ {} }} }}", wide(60, &|n| format!("n{n}{} ", "x".repeat(500)))),
        ),
        (
            "unknown arguments with long names",
            format!("{{ nested {{ {} }} }}", wide(60, &|n| format!("nested(n{n}{}: 1) {{ name }} ", "x".repeat(500)))),
        ),
        ("unknown fields", format!("{{ nested {{ {} }} }}", wide(1_900, &|n| format!("n{n:x} ")))),
        ("one unknown field often", format!("{{ nested {{ {} }} }}", "x ".repeat(1_900))),
        ("conflicting fields", format!("{{ nested {{ {} }} }}", wide(600, &|n| format!("a:n{n:x} ")))),
        (
            "conflicting arguments",
            format!("{{ nested {{ {} }} }}", wide(45, &|n| format!("name({}) ", wide(20, &|m| format!("a{m}:{n} "))))),
        ),
        (
            "conflicts in a fragment spread often",
            format!(
                "{{ nested {{ {} }} }} fragment f on Nested {{ {} }}",
                wide(19, &|n| format!("n{n}: nested {{ ...f }} ")),
                wide(40, &|n| format!("a:n{n} "))
            ),
        ),
        (
            "a fragment spread often",
            format!(
                "{{ {spread} }} fragment f on Query {{ {} }}",
                wide(1, &|n| format!("a{n}: nested {{ {} }}", "name ".repeat(85)))
            ),
        ),
        (
            "inline fragments within each other",
            format!(
                "{}{}{}",
                "{ nested { ".to_owned() + &"... on Nested { name ".repeat(15),
                "name ".repeat(600),
                "}".repeat(17)
            ),
        ),
        (
            "operations that share fragments",
            wide(30, &|n| format!("query q{n} {{ ...f0 }} "))
                + &wide(15, &|n| format!("fragment f{n} on Query {{ hello ...f{} }} ", n + 1))
                + "fragment f15 on Query { hello }",
        ),
        (
            "variables",
            format!(
                "query ({}) {{ nested {{ {} }} }}",
                wide(100, &|n| format!("$v{n}: String ")),
                wide(450, &|n| format!("echo(text: $v{}) ", n % 100))
            ),
        ),
        ("unused variables", format!("query ({}) {{ hello }}", wide(100, &|n| format!("$v{n}: String ")))),
        ("directives", format!("{{ nested {{ {} }} }}", wide(60, &|_| format!("name {} ", "@x(a: 1) ".repeat(9))))),
        ("a literal", format!("{{ items(filter: {{ colours: [{}] }}) {{ totalCount }} }}", "RED ".repeat(3_900))),
        ("a wrong literal", format!("{{ items(filter: {{ colours: [{}] }}) {{ totalCount }} }}", "1 ".repeat(3_900))),
        (
            "an object of many members",
            format!("{{ items(filter: {{ {} }}) {{ totalCount }} }}", wide(1_300, &|n| format!("m{n}:1 "))),
        ),
    ] {
        let documents = documents();
        let start = Instant::now();
        let document = documents.parse(&text).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let parsed = start.elapsed();
        let mut request = Request::new(text);
        request.operation_name = (what == "operations that share fragments").then(|| "q0".to_owned());
        request.set_parsed_query(document.parsed().clone());
        let response = schema.execute(request).await;
        let elapsed = start.elapsed();
        println!("{what}: parsed in {parsed:?}, answered in {elapsed:?}, {} errors", response.errors.len());
        assert!(elapsed < DEADLINE, "{what}: {elapsed:?}");
    }
}

#[test]
fn repeated_document_is_not_parsed_again() {
    let documents = documents();
    let first = documents.parse(INTROSPECTION).expect("passes");
    let again = documents.parse(INTROSPECTION).expect("passes");
    assert!(Arc::ptr_eq(&first, &again));
}

#[test]
fn document_in_use_outlives_any_number_of_others() {
    let documents = documents();
    let kept = documents.parse("{ hello }").expect("passes");
    for number in 0..2_000 {
        documents.parse(&format!("{{ a{number}: hello }}")).expect("passes");
        if number % 100 == 0 {
            assert!(Arc::ptr_eq(&kept, &documents.parse("{ hello }").expect("passes")));
        }
    }
}
