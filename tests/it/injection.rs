//! Texts of clients are values: never a part of a query, an operator or a pattern. Hostile texts are sent to every argument
//! of the schema, and MongoDB's profiler records what reaches the server.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Bson, Document, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};

use crate::fuzz::for_each;
use crate::search::{found, load};
use crate::support::actors::{ALL, App, PASSWORD, Setup};
use crate::support::on_both_stores;
use crate::support::root_fields::root_fields;

on_both_stores![search_finds_literal_matches_only, hostile_texts_are_values_in_every_argument,];

/// Operators, patterns and quotes of query languages, and characters that end or escape texts.
const PIECES: [&str; 29] = [
    "$ne",
    "$where",
    "$regex",
    "{\"$gt\":\"\"}",
    "{$ne:null}",
    ".",
    "..",
    "a.b",
    "$",
    "^",
    ".*",
    "(a+)+$",
    "[a-z]",
    "(?i)",
    "{1,9}",
    "|",
    "*",
    "?",
    "+",
    "\\",
    "\\Q",
    "\\E",
    "\\d",
    "/i",
    "'",
    "';return true;//",
    "\"",
    "%00",
    "(((",
];

fn texts() -> impl Strategy<Value = String> {
    let pieces = vec(select(PIECES.to_vec()), 1..4).prop_map(|pieces| pieces.concat());
    prop_oneof![
        6 => pieces.clone(),
        1 => (pieces.clone(), pieces).prop_map(|(one, other)| format!("{one}\0{other}")),
        1 => "[ -~]{0,6}",
    ]
}

async fn search_finds_literal_matches_only(app: App) {
    let operator = app.operator(&ALL).await;
    let mut names: Vec<_> = PIECES.iter().map(|piece| format!("N {piece} aaaa")).collect();
    names.extend(PIECES.windows(2).map(|pair| format!("{}{} B", pair[0], pair[1])));
    names.push("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!".to_owned());
    for name in &names {
        operator.create_system(name).await;
    }
    let store = app.instance_with(2, Setup::without_leases()).await;
    load(&operator, 1).await;
    // The names are ASCII, so their case is all that a search ignores.
    let expected = |needle: &str| -> BTreeSet<String> {
        let needle = needle.to_ascii_lowercase();
        let matching = names.iter().filter(|name| name.to_ascii_lowercase().contains(&needle));
        matching.cloned().collect()
    };
    let needles = prop_oneof![3 => texts(), 2 => (select(names.clone()), 0..9_usize, 1..5_usize)
        .prop_map(|(name, start, length)| name.chars().skip(start).take(length).collect())];
    for_each(96, &needles, async |needle| {
        for instance in [&app, &store] {
            let found = found(&operator.at(instance), &needle).await;
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected(&needle), "{needle:?}");
        }
    });
}

/// Sends each text, and objects that are operators of MongoDB, to each place of the schema, to the command for exports and
/// to the verification listener.
async fn send_everywhere(app: &App) {
    let operator = app.operator(&ALL).await;
    operator.generate_key(&operator.create_system("The only system").await.id).await;
    let count =
        async || operator.query("{ systems { totalCount } }", json!({})).await.data("systems.totalCount").clone();
    let bearer = operator.token.clone();
    for field in root_fields().iter().filter(|field| field.root != "Subscription") {
        for place in &field.places {
            let objects = PIECES[..5].iter().flat_map(|text| {
                [json!({ (*text): "" }), json!({ "$ne": text }), json!([text]), json!([{ "$where": text }])]
            });
            let values = PIECES.iter().map(|text| json!(text)).chain(objects);
            let sent = stream::iter(values).for_each_concurrent(8, async |value| {
                let response = operator.query(&place.document(), json!({ "value": value })).await;
                let what = format!("{} {} {value}: {}", field.name, place.path, response.text);
                assert!(response.status.is_success() || response.status.is_client_error(), "{what}");
                assert!(!matches!(response.code(), Some("INTERNAL" | "UNAVAILABLE")), "{what}");
                if !value.is_string() && matches!(place.ty.as_str(), "String" | "ID") {
                    assert_eq!(response.code(), Some("BAD_USER_INPUT"), "{what}");
                }
                if place.ty == "ID" {
                    let data = response.body.pointer(&format!("/data/{}", field.name)).unwrap_or(&Json::Null);
                    let is_empty = data.is_null() || data["nodes"] == json!([]) && data["totalCount"] == 0;
                    assert!(is_empty, "{what}");
                }
            });
            sent.await;
        }
    }
    for text in PIECES {
        for (username, password) in [(text, PASSWORD), (operator.username.as_str(), text)] {
            assert!(app.anonymous().sign_in(username, password).await.code().is_some(), "{text}");
        }
        assert!(["MALFORMED", "RATE_LIMITED"].contains(&app.verifier().code(text).await.as_str()), "{text}");
        let authorization = app.anonymous().bearing(&format!("{bearer}{text}"));
        assert_eq!(authorization.query("{ viewer { id } }", json!({})).await.status, 401, "{text}");
    }
    let created = count().await.as_u64().expect("a number");
    assert!(created <= 1 + PIECES.len() as u64, "only names that are valid texts were created: {created}");
}

async fn hostile_texts_are_values_in_every_argument(app: App) {
    send_everywhere(&app).await;
}

/// All operators that Keymark sends, and names of the protocol.
const OPERATORS: [&str; 24] = [
    "$add",
    "$changeStream",
    "$clusterTime",
    "$cond",
    "$db",
    "$group",
    "$gt",
    "$gte",
    "$hint",
    "$in",
    "$inc",
    "$lt",
    "$lte",
    "$match",
    "$max",
    "$ne",
    "$not",
    "$or",
    "$regex in a search by name",
    "$set",
    "$setOnInsert",
    "$subtract",
    "$sum",
    "$unset",
];

/// The keys that begin with `$` in a command, and the kinds of values that are code.
fn operators(value: &Bson, found: &mut BTreeSet<String>) {
    match value {
        Bson::Document(document) => {
            for (key, value) in document {
                if key.starts_with('$') {
                    found.insert(key.clone());
                }
                operators(value, found);
            }
        }
        Bson::Array(items) => items.iter().for_each(|item| operators(item, found)),
        Bson::RegularExpression(_) => drop(found.insert("$regex".to_owned())),
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => drop(found.insert("JavaScript".to_owned())),
        _ => {}
    }
}

/// All operators that an operation sent. Panics if it has a pattern that is not literal, or not in a search by name and
/// description within one tenant.
pub fn operators_of(operation: &Document) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // An operation that continues with a cursor has the command that opened it.
    for command in ["originatingCommand", "command"].iter().filter_map(|name| operation.get_document(name).ok()) {
        let mut sent = BTreeSet::new();
        operators(&Bson::Document(command.clone()), &mut sent);
        if sent.remove("$regex") {
            assert_literal_search(operation, command);
            sent.insert("$regex in a search by name".to_owned());
        }
        found.extend(sent);
    }
    found
}

fn assert_literal_search(operation: &Document, command: &Document) {
    assert!(operation.get_str("ns").is_ok_and(|ns| ns.ends_with(".systems")), "{operation}");
    let plan = operation.get_str("planSummary").unwrap_or_default();
    assert!(plan.starts_with("IXSCAN { tenant: 1") || plan.starts_with("COUNT_SCAN { tenant: 1"), "{operation}");
    let stage = command.get_array("pipeline").ok().and_then(|stages| stages[0].as_document());
    let matched = stage.and_then(|stage| stage.get_document("$match").ok());
    let filter = command.get_document("filter").ok().or(matched).expect("a pattern in a filter");
    assert!(filter.get_str("tenant").is_ok(), "{operation}");
    let mut elsewhere = BTreeSet::new();
    filter.iter().filter(|(key, _)| *key != "$or").for_each(|(_, value)| operators(value, &mut elsewhere));
    assert!(!elsewhere.contains("$regex"), "{operation}");
    let texts = filter.get_array("$or").expect("conditions on the name, the description and the external id");
    let patterns = ["folded", "foldedDescription", "foldedExternalId"].iter().zip(texts).map(|(member, condition)| {
        let condition = condition.as_document().expect("a condition").get_document(member).expect("of this member");
        assert!(condition.len() == 1, "{operation}");
        condition.get_str("$regex").expect("a text")
    });
    let patterns: BTreeSet<_> = patterns.collect();
    assert!(texts.len() == 3 && patterns.len() == 1, "{operation}");
    let pattern = patterns.first().expect("a pattern");
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let is_literal = match c {
            '\\' => characters.next().is_some_and(|escaped| !escaped.is_alphanumeric()),
            c => !"^$.|?*+()[]{}".contains(c),
        };
        assert!(is_literal, "{pattern} is more than a text");
    }
}

/// Runs the action and returns the operations of Keymark that the server's profiler recorded meanwhile.
async fn profile(app: &App, action: impl Future<Output = ()>) -> Vec<Document> {
    let database = app.database().await;
    // By default, it keeps a megabyte.
    let create = doc! { "create": "system.profile", "capped": true, "size": 256 << 20 };
    database.run_command(create).await.expect("created");
    database.run_command(doc! { "profile": 2 }).await.expect("profiled");
    action.await;
    database.run_command(doc! { "profile": 0 }).await.expect("not profiled");
    let ours = doc! { "appName": "keymark", "ns": { "$not": { "$regex": "system.profile$" } } };
    let recorded = database.collection::<Document>("system.profile");
    let found: Vec<_> = recorded.find(ours).await.expect("a profile").try_collect().await.expect("operations");
    recorded.drop().await.expect("dropped");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_receives_neither_javascript_nor_operators_of_clients() {
    let app = App::mongodb_with(Setup::without_leases()).await;
    let recorded = profile(&app, send_everywhere(&app)).await;
    assert!(recorded.len() > 500, "{}", recorded.len());
    let operators: BTreeSet<_> = recorded.iter().flat_map(operators_of).collect();
    assert!(operators.contains("$regex in a search by name"), "{operators:?}");
    let unknown: Vec<_> = operators.iter().filter(|operator| !OPERATORS.contains(&operator.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_in_cached_names_send_no_pattern() {
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    operator.create_system("Billing .* $ne").await;
    load(&operator, 1).await;
    let recorded = profile(&app, async {
        for text in PIECES {
            found(&operator, text).await;
        }
    });
    let recorded = recorded.await;
    let operators: BTreeSet<_> = recorded.iter().flat_map(operators_of).collect();
    assert!(!recorded.is_empty() && operators.iter().all(|operator| !operator.contains("regex")), "{operators:?}");
}
