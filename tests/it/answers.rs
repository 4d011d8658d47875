//! Cached answers of the API are those that would be computed.

use std::time::Duration;

use http::{Method, StatusCode};
use keymark::coherence::protocol::Timing;
use keymark::http::PublicFeatures;
use mongodb::bson::doc;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, Answer, App, Operator, Setup};
use crate::support::on_both_stores;

on_both_stores![
    random_answers_equal_those_of_an_instance_without_the_cache,
    answer_is_computed_once_until_the_log_grows,
    entity_tag_is_answered_by_304_until_the_log_grows,
    cached_answer_is_refused_to_those_who_may_not_ask,
    answers_with_errors_or_of_other_data_are_not_cached,
];

const NAMES: &str = "{ systems(first: 5) { nodes { name keyState } totalCount } }";

fn setup(answer_bytes: usize) -> Setup {
    let features = PublicFeatures { introspection: true, graphiql: true, answer_bytes };
    let timing = Timing { lease: Duration::from_secs(300), probe_interval: Duration::from_millis(200) };
    Setup { features, timing, ..Setup::default() }
}

async fn metric(app: &App, name: &str) -> u64 {
    let text = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("keymark_{name}_total ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Asks until the answer comes from the cache: it is cached after the response.
async fn cached(operator: &Operator<'_>, query: &str) -> Answer {
    let before = metric(operator.app, "answers_cached").await;
    loop {
        let answer = operator.query(query, Json::Null).await;
        if metric(operator.app, "answers_cached").await > before {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

/// A query with variables: each qualifies, in one of several forms.
fn random_query(rng: &mut StdRng, ids: &[String], cursors: &[String]) -> (String, Json) {
    let fields = "id name description externalId keyState keyMark revision updatedAt currentKey { mark generatedBy { name } } \
                  lastKey { mark end reason }";
    let id = ids.choose(rng).cloned().unwrap_or_default();
    let after = cursors.choose(rng).cloned();
    let first = rng.random_range(1..8);
    match rng.random_range(0..7) {
        0 => (
            format!("{{ systems(first: {first}) {{ edges {{ cursor node {{ {fields} }} }} totalCount }} }}"),
            json!({}),
        ),
        1 => {
            let query = "query ($s: String, $n: Int) { systems(search: $s, first: $n) { nodes { name } totalCount } }";
            let search = ["a", "1", "", "key"].choose(rng).copied();
            (query.to_owned(), json!({ "s": search, "n": first }))
        }
        2 => {
            let order = ["UPDATED_AT", "CREATED_AT", "KEY_GENERATED_AT"].choose(rng).expect("one");
            let order = format!("orderBy: {{ field: {order}, direction: DESC }}, filter: {{ keyState: ACTIVE }}");
            (
                format!("{{ systems({order}) {{ nodes {{ {fields} }} pageInfo {{ hasNextPage endCursor }} }} }}"),
                json!({}),
            )
        }
        3 => ("query ($id: ID!) { system(id: $id) { id name keyState } }".to_owned(), json!({ "id": id })),
        4 => {
            let query = "query ($id: ID!) { node(id: $id) { id ... on System { name revision } } }";
            (query.to_owned(), json!({ "id": id }))
        }
        5 => {
            let query = "query ($after: String) { auditLog(first: 4, after: $after) { nodes { number action hash systemName } \
                         pageInfo { endCursor } totalCount } }";
            (query.to_owned(), json!({ "after": after }))
        }
        _ => {
            let filter = "filter: { systemId: $id }";
            let query = format!(
                "query ($id: ID) {{ auditLog(first: 9, {filter}) {{ nodes {{ id actor {{ name }} }} totalCount }} }}"
            );
            (query, json!({ "id": id }))
        }
    }
}

async fn random_change(rng: &mut StdRng, operator: &Operator<'_>, ids: &mut Vec<String>) {
    let id = ids.choose(rng).cloned();
    match (rng.random_range(0..6), id) {
        (0 | 1, _) | (_, None) => {
            let created =
                operator.try_create_system(&format!("a{} {}", rng.random_range(0..9), rng.random::<u16>())).await;
            ids.push(created.data("createSystem.system.id").as_str().expect("an id").to_owned());
        }
        (2, Some(id)) => drop(operator.try_rename_system(&id, &format!("key {}", rng.random::<u16>()), None).await),
        (3, Some(id)) => drop(operator.try_generate_key(&id).await),
        (4, Some(id)) => drop(operator.try_revoke_key(&id).await),
        (_, Some(id)) if ids.len() > 6 => drop(operator.try_delete_system(&id).await),
        (_, Some(id)) => {
            let suspend = "mutation ($id: ID!) { suspendSystem(id: $id) { system { id } } }";
            drop(operator.query(suspend, json!({ "id": id })).await);
        }
    }
}

async fn random_answers_equal_those_of_an_instance_without_the_cache(app: App) {
    // An embedded store has one instance: its answers are compared with those through a router of its own.
    let app = match app.is_embedded() {
        true => App::embedded_with(setup(1 << 20)).await,
        false => App::mongodb_with(setup(1 << 20)).await,
    };
    let others = match app.is_embedded() {
        true => vec![app.instance_with(2, setup(0)).await],
        false => vec![app.instance_with(2, setup(1 << 16)).await, app.instance_with(3, setup(0)).await],
    };
    let operator = app.operator_of("acme", &ALL).await;
    let instances: Vec<&App> = std::iter::once(&app).chain(&others).collect();
    let mut rng = StdRng::seed_from_u64(14);
    let (mut ids, mut cursors, mut asked) = (Vec::new(), Vec::new(), Vec::<(String, Json)>::new());
    for step in 0..150 {
        if rng.random_ratio(1, 3) || step == 0 {
            let changing = if app.is_embedded() { &app } else { instances.choose(&mut rng).expect("one") };
            random_change(&mut rng, &operator.at(changing), &mut ids).await;
        }
        let question = match asked.choose(&mut rng) {
            Some(question) if rng.random_ratio(2, 3) => question.clone(),
            _ => random_query(&mut rng, &ids, &cursors),
        };
        let (query, variables) = &question;
        let computed = operator.at(instances[instances.len() - 1]).query(query, variables.clone()).await;
        for instance in &instances {
            let answer = operator.at(instance).query(query, variables.clone()).await;
            assert_eq!(answer.text, computed.text, "step {step}: {query} {variables}");
        }
        let cursor = computed.body["data"]["auditLog"]["pageInfo"]["endCursor"].as_str();
        cursors.extend(cursor.map(str::to_owned));
        asked.push(question);
    }
    let (from_cache, was_computed) = (metric(&app, "answers_cached").await, metric(&app, "answers_computed").await);
    assert!(from_cache > 10 && was_computed > 10, "{from_cache} cached, {was_computed} computed");
}

async fn answer_is_computed_once_until_the_log_grows(app: App) {
    let operator = app.operator_of("acme", &ALL).await;
    operator.create_system("Billing").await;
    let first = operator.query(NAMES, Json::Null).await;
    assert_eq!(cached(&operator, NAMES).await.text, first.text);
    assert_eq!(
        (first.header("etag"), first.header("cache-control")),
        (None, Some("no-store")),
        "POST is not conditional"
    );
    // Another tenant's change leaves it cached.
    app.operator_of("globex", &ALL).await.create_system("Else").await;
    let before = metric(&app, "answers_computed").await;
    operator.query(NAMES, Json::Null).await;
    assert_eq!(metric(&app, "answers_computed").await, before);
    operator.create_system("Search").await;
    let next = operator.query(NAMES, Json::Null).await;
    assert_eq!(next.data("systems.totalCount"), 2);
    assert_eq!(metric(&app, "answers_computed").await, before + 1);
    assert_eq!(cached(&operator, NAMES).await.text, next.text);
}

async fn entity_tag_is_answered_by_304_until_the_log_grows(app: App) {
    let operator = app.operator_of("acme", &ALL).await;
    operator.create_system("Billing").await;
    let address = "/graphql?query=%7Bsystems%7Bnodes%7Bname%7D%7D%7D";
    let get =
        async |method: Method, headers: &[(&str, &str)]| operator.send(method, address, headers, String::new()).await;
    let first = get(Method::GET, &[]).await;
    let tag = first.header("etag").expect("an entity tag").to_owned();
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    for method in [Method::GET, Method::HEAD] {
        let unchanged = get(method, &[("if-none-match", &tag)]).await;
        assert_eq!((unchanged.status, unchanged.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(get(Method::GET, &[("if-none-match", "\"other\"")]).await.text, first.text);
    let query = address.split_once('?').expect("a query").1.to_owned();
    let posted = operator.send(Method::POST, "/graphql", &[("content-type", "application/json")], query).await;
    assert_eq!(posted.status, StatusCode::BAD_REQUEST, "a query string is no body");
    operator.create_system("Search").await;
    let changed = get(Method::GET, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    assert_eq!(changed.data("systems.nodes").as_array().unwrap().len(), 2);
    let other = app.operator_of("acme", &["api_key_management:view"]).await;
    let of_other = other.send(Method::GET, address, &[], String::new()).await;
    assert_ne!(of_other.header("etag"), changed.header("etag"), "other codes");
}

async fn cached_answer_is_refused_to_those_who_may_not_ask(app: App) {
    let operator = app.operator_of("acme", &ALL).await;
    operator.create_system("Billing").await;
    let same = app.operator_of("acme", &ALL).await;
    cached(&operator, NAMES).await;
    same.may(&["api_key_management:edit"]).await;
    cached(&operator, NAMES).await;
    assert_eq!(same.query(NAMES, Json::Null).await.code(), Some("FORBIDDEN"));
    cached(&operator, NAMES).await;
    let stranger = app.operator_of("globex", &ALL).await;
    assert_eq!(stranger.query(NAMES, Json::Null).await.data("systems.totalCount"), 0);
    operator.sign_out().await;
    assert_eq!(operator.query(NAMES, Json::Null).await.code(), Some("UNAUTHENTICATED"));
    assert_eq!(app.anonymous().query(NAMES, Json::Null).await.code(), Some("UNAUTHENTICATED"));
}

async fn answers_with_errors_or_of_other_data_are_not_cached(app: App) {
    let operator = app.operator_of("acme", &ALL).await;
    for query in ["{ systems(first: 0) { totalCount } }", "{ viewer { id } }", "{ systems { nodes { lastUsedAt } } }"] {
        for _ in 0..3 {
            operator.query(query, Json::Null).await;
        }
    }
    assert_eq!((metric(&app, "answers_cached").await, metric(&app, "answers_computed").await), (0, 0));
    let address = "/graphql?query=%7Bsystems(first:0)%7BtotalCount%7D%7D";
    let refused = operator.send(Method::GET, address, &[], String::new()).await;
    assert_eq!((refused.header("etag"), refused.header("cache-control")), (None, Some("no-store")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_by_another_client_of_the_database_ends_the_cached_answer() {
    let app = App::mongodb_with(setup(1 << 20)).await;
    app.wait_for_cache().await;
    let operator = app.operator_of("acme", &ALL).await;
    let system = operator.create_system("Billing").await;
    cached(&operator, NAMES).await;
    let systems = app.database().await.collection::<mongodb::bson::Document>("systems");
    systems.update_one(doc! { "_id": &system.id }, doc! { "$set": { "name": "Changed" } }).await.unwrap();
    app.wait_until(async || operator.query(NAMES, Json::Null).await.data("systems.nodes")[0]["name"] == "Changed")
        .await;
}
