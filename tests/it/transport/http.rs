//! GraphQL over HTTP.

use std::sync::{Arc, atomic::Ordering};

use axum::{Router, body::Body, response::Response};
use futures::stream;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use insta::{assert_json_snapshot, assert_snapshot};
use keymark::http::graphql::TransportLimits;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::toy::{self, World};
use crate::support::within;

const GRAPHQL: &str = "application/graphql-response+json";

/// A client that speaks to the router in process.
struct Client {
    router: Router,
    world: Arc<World>,
}

impl Client {
    fn new() -> Self {
        let world = Arc::new(World::default());
        let router = toy::router(&world, TransportLimits::default(), CancellationToken::new());
        Self { router, world }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = within(self.router.clone().oneshot(request)).await;
        Answer::of(response.expect("infallible")).await
    }

    /// A POST of this JSON, answered as `application/graphql-response+json`.
    async fn post(&self, body: Json) -> Answer {
        self.send(post(GRAPHQL, body)).await
    }

    async fn query(&self, query: &str) -> Answer {
        self.post(json!({ "query": query })).await
    }

    async fn get(&self, query_string: &str) -> Answer {
        let request =
            Request::get(format!("/graphql?{query_string}")).header(header::ACCEPT, GRAPHQL).body(Body::empty());
        self.send(request.expect("request")).await
    }
}

fn post(accept: &str, body: Json) -> Request<Body> {
    Request::post("/graphql")
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into())
        .expect("request")
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Json,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("body").to_bytes();
        Self { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).expect("JSON") }
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or("no code")
    }

    #[track_caller]
    fn assert_refused(&self, status: StatusCode) {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.body.get("data").is_none(), "{}", self.body);
        assert_ne!(self.code(), "no code", "{}", self.body);
        assert!(self.body["errors"][0]["message"].is_string());
    }
}

#[tokio::test]
async fn response_has_the_media_type_that_the_client_prefers() {
    let client = Client::new();
    let graphql = "application/graphql-response+json; charset=utf-8";
    let json = "application/json; charset=utf-8";
    for (accept, expected) in [
        (None, json),
        (Some(""), json),
        (Some("*/*"), json),
        (Some("application/*"), json),
        (Some("text/html, */*;q=0.8"), json),
        (Some("application/json"), json),
        (Some("Application/JSON; Charset=UTF-8"), json),
        (Some("application/json, */*"), json),
        (Some("application/graphql-response+json"), graphql),
        (Some("application/graphql-response+json; charset=utf-8"), graphql),
        (Some("application/graphql-response+json, application/json;q=0.9"), graphql),
        (Some("application/json;q=0.9, application/graphql-response+json"), graphql),
        (Some("application/json, application/graphql-response+json"), graphql),
        (Some("application/graphql-response+json;q=0.5, application/json"), json),
        (Some("application/graphql-response+json;q=0, */*"), json),
        (Some("application/json;q=0, */*"), graphql),
        (Some("application/json;q=0.1, application/*;q=0.5"), graphql),
        (Some("application/json;q=0.2, application/graphql-response+json;q=0.1, */*"), json),
        (Some("text/plain, application/graphql-response+json;q=0.001"), graphql),
    ] {
        let mut request = post("", json!({ "query": "{ hello }" }));
        request.headers_mut().remove(header::ACCEPT);
        if let Some(accept) = accept {
            let accept = accept.parse().expect("header");
            request.headers_mut().insert(header::ACCEPT, accept);
        }
        let answer = client.send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{accept:?}");
        assert_eq!(answer.header(header::CONTENT_TYPE), expected, "{accept:?}");
        assert_eq!(answer.body, json!({ "data": { "hello": "world" } }));
    }
}

#[tokio::test]
async fn client_that_accepts_no_json_gets_406() {
    let client = Client::new();
    for accept in [
        "text/html",
        "multipart/mixed",
        "application/json;q=0",
        "*/*;q=0",
        "application/json; charset=utf-16",
        "application/json;q=2",
    ] {
        let answer = client.send(post(accept, json!({ "query": "{ hello }" }))).await;
        answer.assert_refused(StatusCode::NOT_ACCEPTABLE);
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/json; charset=utf-8");
    }
}

#[tokio::test]
async fn only_utf_8_json_is_accepted() {
    let client = Client::new();
    for (content_type, status) in [
        ("application/json", StatusCode::OK),
        ("application/json;charset=utf-8", StatusCode::OK),
        ("application/json; charset=\"UTF-8\"", StatusCode::OK),
        ("application/json; charset=utf-16", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/json; charset=iso-8859-1", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/graphql", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/x-www-form-urlencoded", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("multipart/form-data; boundary=x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/jsonp", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let mut request = post(GRAPHQL, json!({ "query": "{ hello }" }));
        let value = content_type.parse().expect("header");
        request.headers_mut().insert(header::CONTENT_TYPE, value);
        let answer = client.send(request).await;
        assert_eq!(answer.status, status, "{content_type}");
    }
    let mut request = post(GRAPHQL, json!({ "query": "{ hello }" }));
    request.headers_mut().remove(header::CONTENT_TYPE);
    client.send(request).await.assert_refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut request = post(GRAPHQL, json!({ "query": "{ hello }" }));
    request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().expect("header"));
    client.send(request).await.assert_refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn too_large_body_is_refused_by_its_declared_length_and_by_its_bytes() {
    let client = Client::new();
    let mut request = post(GRAPHQL, json!({}));
    *request.body_mut() = Body::from_stream(stream::pending::<Result<String, std::io::Error>>());
    let length = "262145".parse().expect("header");
    request.headers_mut().insert(header::CONTENT_LENGTH, length);
    client.send(request).await.assert_refused(StatusCode::PAYLOAD_TOO_LARGE);

    let mut request = post(GRAPHQL, json!({}));
    let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(1024)));
    *request.body_mut() = Body::from_stream(chunks);
    client.send(request).await.assert_refused(StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn body_that_does_not_arrive_in_time_gets_408() {
    let client = Client::new();
    let mut request = post(GRAPHQL, json!({}));
    *request.body_mut() = Body::from_stream(stream::pending::<Result<String, std::io::Error>>());
    let response = client.router.clone().oneshot(request).await;
    let answer = Answer::of(response.expect("infallible")).await;
    answer.assert_refused(StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn malformed_requests_get_400_with_a_reason() {
    let client = Client::new();
    let mut messages = Vec::new();
    for body in [
        "",
        "{ \"not a JSON",
        "\"text\"",
        "[]",
        r#"[{ "query": "{ hello }" }]"#,
        r#"{ "qeury": "{ hello }" }"#,
        r#"{ "query": null }"#,
        r#"{ "query": 7 }"#,
        r#"{ "query": "{ hello }", "variables": [] }"#,
        r#"{ "query": "{ hello }", "variables": "{}" }"#,
        r#"{ "query": "{ hello }", "operationName": 7 }"#,
        r#"{ "query": "{ hello }", "extensions": "x" }"#,
    ] {
        for accept in [GRAPHQL, "application/json"] {
            let mut request = post(accept, json!({}));
            *request.body_mut() = body.into();
            let answer = client.send(request).await;
            answer.assert_refused(StatusCode::BAD_REQUEST);
            assert_eq!(answer.code(), "BAD_USER_INPUT");
            if accept == GRAPHQL {
                messages.push(answer.body["errors"][0]["message"].as_str().map(str::to_owned));
            }
        }
    }
    assert_json_snapshot!(messages, @r#"
    [
      "The body is not JSON: EOF while parsing a value at line 1 column 0.",
      "The body is not JSON: EOF while parsing a string at line 1 column 13.",
      "The body must be a JSON object.",
      "Batches are not supported: send one operation in a request.",
      "Batches are not supported: send one operation in a request.",
      "`query` is missing.",
      "`query` is missing.",
      "`query` must be a string.",
      "`variables` must be an object.",
      "`variables` must be an object.",
      "`operationName` must be a string.",
      "`extensions` must be an object."
    ]
    "#);
}

#[tokio::test]
async fn json_with_too_many_values_is_refused_before_it_is_parsed() {
    let client = Client::new();
    for part in ["variables", "extensions"] {
        let answer = client.post(json!({ "query": "{ hello }", part: { "x": vec![1; 12_000] } })).await;
        answer.assert_refused(StatusCode::BAD_REQUEST);
        assert_eq!(answer.code(), "QUERY_TOO_COMPLEX");
    }
    let commas = ",".repeat(20_000);
    let answer =
        client.post(json!({ "query": "query ($t: String!) { echo(text: $t) }", "variables": { "t": commas } })).await;
    assert_eq!(answer.body, json!({ "data": { "echo": commas } }));
}

#[tokio::test]
async fn unknown_members_and_nulls_of_a_request_are_ignored() {
    let client = Client::new();
    let answer = client
        .post(json!({
            "query": "{ hello }", "operationName": null, "variables": null, "extensions": null, "id": 7,
        }))
        .await;
    assert_eq!(answer.body, json!({ "data": { "hello": "world" } }));
}

#[tokio::test]
async fn get_runs_queries_with_variables_in_json() {
    let client = Client::new();
    let answer = client
        .get("query=query($t:String!){echo(text:$t)}&variables=%7B%22t%22:%22a%2Bb%22%7D&operationName=&extensions=")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, json!({ "data": { "echo": "a+b" } }));
}

#[tokio::test]
async fn malformed_get_requests_get_400() {
    let client = Client::new();
    for query_string in [
        "",
        "query=",
        "query={hello}&variables=nonsense",
        "query={hello}&variables=[]",
        "query={hello}&extensions=7",
        "query={hello}&query={hello}",
        "query=query+a{hello}&operationName=null",
    ] {
        let answer = client.get(query_string).await;
        answer.assert_refused(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn get_runs_only_queries() {
    let client = Client::new();
    let both = "query=query+q{hello}mutation+m{set(value:7)}";
    let answer = client.get(&format!("{both}&operationName=q")).await;
    assert_eq!(answer.status, StatusCode::OK);
    for query_string in [
        format!("{both}&operationName=m"),
        "query=mutation{set(value:7)}".to_owned(),
        "query=subscription{count(to:1)}".to_owned(),
    ] {
        let answer = client.get(&query_string).await;
        answer.assert_refused(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header(header::ALLOW), "POST");
    }
    client.get(both).await.assert_refused(StatusCode::BAD_REQUEST);
    assert_eq!(client.world.value.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn other_methods_get_405() {
    let client = Client::new();
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let mut request = post(GRAPHQL, json!({ "query": "{ hello }" }));
        *request.method_mut() = method;
        let answer = client.send(request).await;
        answer.assert_refused(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header(header::ALLOW), "GET, HEAD, POST");
    }
}

#[tokio::test]
async fn every_response_forbids_caching() {
    let client = Client::new();
    for answer in [
        client.query("{ hello }").await,
        client.query("{").await,
        client.get("").await,
        client.send(post("text/html", json!({}))).await,
    ] {
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.header(header::VARY), "Accept");
    }
}

#[tokio::test]
async fn request_errors_have_status_400_and_no_data_and_200_for_legacy_clients() {
    let client = Client::new();
    for body in [
        json!({ "query": "{" }),
        json!({ "query": "" }),
        json!({ "query": "{ nothing }" }),
        json!({ "query": "query a { hello } query b { hello }" }),
        json!({ "query": "query a { hello }", "operationName": "b" }),
        json!({ "query": "query ($t: String!) { echo(text: $t) }" }),
        json!({ "query": "query ($t: String!) { optionalEcho(text: $t) }", "variables": { "t": null } }),
        json!({ "query": "query ($t: String!) { echo(text: $t) }", "variables": { "t": 7 } }),
        json!({ "query": "subscription { count(to: 1) }" }),
    ] {
        let answer = client.post(body.clone()).await;
        answer.assert_refused(StatusCode::BAD_REQUEST);
        assert_eq!(answer.code(), "BAD_USER_INPUT", "{body}");
        let answer = client.send(post("application/json", body)).await;
        answer.assert_refused(StatusCode::OK);
    }
}

#[tokio::test]
async fn field_errors_have_status_200_and_data() {
    let client = Client::new();
    for accept in [GRAPHQL, "application/json"] {
        let query = json!({ "query": "{ hello forbidden }" });
        let answer = client.send(post(accept, query)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["data"], json!({ "hello": "world", "forbidden": null }));
        assert_eq!(answer.code(), "FORBIDDEN");

        let query = json!({ "query": "{ hello forbiddenAndNotNull }" });
        let answer = client.send(post(accept, query)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["data"], Json::Null);
        assert!(answer.body.get("data").is_some());
        assert_eq!(answer.body["errors"][0]["path"], json!(["forbiddenAndNotNull"]));
    }
}

/// <https://spec.graphql.org/October2021/#sec-Handling-Field-Errors>
#[tokio::test]
async fn failed_field_makes_the_nearest_nullable_parent_null() {
    let client = Client::new();
    for (query, data) in [
        ("{ hello forbidden }", json!({ "hello": "world", "forbidden": null })),
        ("{ forbidden a: forbidden }", json!({ "forbidden": null, "a": null })),
        ("{ hello forbiddenAndNotNull }", Json::Null),
        ("{ hello nested { maybeBroken } }", json!({ "hello": "world", "nested": { "maybeBroken": null } })),
        ("{ nested { b: maybeBroken name } }", json!({ "nested": { "b": null, "name": "nested" } })),
        ("{ nested { name broken } }", Json::Null),
        ("{ nested { name maybe { name broken } } }", json!({ "nested": { "name": "nested", "maybe": null } })),
        ("{ nested { maybe { nested { broken maybeBroken } } } }", json!({ "nested": { "maybe": null } })),
        (
            "{ nested { maybe { maybeNoObject { name } } } }",
            json!({ "nested": { "maybe": { "maybeNoObject": null } } }),
        ),
        ("{ nested { maybe { list { name broken } } } }", json!({ "nested": { "maybe": null } })),
        (
            "{ nested { list { maybeBroken } } }",
            json!({ "nested": { "list": [{ "maybeBroken": null }, { "maybeBroken": null }] } }),
        ),
        ("{ nested { sparse { name broken } } }", json!({ "nested": { "sparse": [null, null, null] } })),
        (
            "{ nested { ...n } } fragment n on Nested { ... { maybe { broken } } }",
            json!({ "nested": { "maybe": null } }),
        ),
        ("{ nested { warned } }", json!({ "nested": { "warned": 7 } })),
    ] {
        let answer = client.query(query).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
        assert_eq!(answer.body.get("data"), Some(&data), "{query}");
        assert_ne!(answer.code(), "no code", "{query}");
    }
}

#[test]
fn types_of_the_api_are_known_from_its_schema() {
    let types = keymark::graphql::completion::OutputTypes::from_sdl(&keymark::graphql::sdl());
    assert!(types.is_ok(), "{types:?}");
}

/// <https://spec.graphql.org/October2021/#sec-Serialized-Map-Ordering>
#[tokio::test]
async fn fields_are_in_the_order_of_their_selection() {
    let client = Client::new();
    let query = "{ a: later nested { c: forbiddenLater ...n d: later name } hello e: forbidden ...q }
        fragment n on Nested { list { f: later name } name } fragment q on Query { hello a: later g: later }";
    let request = post(GRAPHQL, json!({ "query": query }));
    let response = within(client.router.clone().oneshot(request)).await.expect("infallible");
    let body = response.into_body().collect().await.expect("body").to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert_snapshot!(body.split(",\"errors\"").next().expect("data"), @r#"{"data":{"a":true,"nested":{"c":null,"list":[{"f":true,"name":"nested"},{"f":true,"name":"nested"}],"name":"nested","d":true},"hello":"world","e":null,"g":true}"#);
}

#[tokio::test]
async fn syntax_errors_have_locations() {
    let answer = Client::new().query("{\n  hello(\n}").await;
    assert_json_snapshot!(answer.body, @r#"
    {
      "errors": [
        {
          "extensions": {
            "code": "BAD_USER_INPUT"
          },
          "locations": [
            {
              "column": 1,
              "line": 3
            }
          ],
          "message": "Syntax error: expected name."
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn default_values_apply_in_conditions() {
    let client = Client::new();
    let answer = client.query("query ($yes: Boolean = true) { hello @include(if: $yes) }").await;
    assert_eq!(answer.body, json!({ "data": { "hello": "world" } }));
}

#[tokio::test]
async fn names_are_suggested_only_to_signed_in_callers() {
    let client = Client::new();
    let query = json!({ "query": "{ helo nested { nam } echo(txt: \"a\") }" });
    let anonymous = client.post(query.clone()).await;
    assert!(!anonymous.body.to_string().contains("Did you mean"), "{}", anonymous.body);
    let mut request = post(GRAPHQL, query);
    let token = "Bearer good".parse().expect("header");
    request.headers_mut().insert(header::AUTHORIZATION, token);
    let signed_in = client.send(request).await;
    assert_snapshot!(signed_in.body["errors"][0]["message"].as_str().expect("message"), @r#"Unknown field "helo" on type "Query". Did you mean "hello"?"#);
}

#[tokio::test]
async fn internal_causes_are_not_exposed() {
    let answer = Client::new().query("{ leak }").await;
    assert_json_snapshot!(answer.body, @r#"
    {
      "data": {
        "leak": null
      },
      "errors": [
        {
          "extensions": {
            "code": "INTERNAL"
          },
          "locations": [
            {
              "column": 3,
              "line": 1
            }
          ],
          "message": "Something went wrong on the server.",
          "path": [
            "leak"
          ]
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn argument_that_only_its_resolver_can_parse_is_bad_user_input() {
    let answer = Client::new().query("{ even(number: 3) }").await;
    assert_json_snapshot!(answer.body, @r#"
    {
      "data": null,
      "errors": [
        {
          "extensions": {
            "code": "BAD_USER_INPUT"
          },
          "locations": [
            {
              "column": 16,
              "line": 1
            }
          ],
          "message": "Failed to parse \"EvenNumber\": not an even number",
          "path": [
            "even"
          ]
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn panic_in_a_resolver_is_an_internal_error() {
    let client = Client::new();
    for query in ["{ panics }", "mutation { panics }"] {
        let answer = client.query(query).await;
        answer.assert_refused(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.code(), "INTERNAL");
    }
}

#[tokio::test]
async fn headers_that_resolvers_set_are_sent() {
    let answer = Client::new().query("{ cookie }").await;
    let cookies: Vec<_> = answer.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn operations_run_with_the_data_of_their_caller() {
    let client = Client::new();
    let mut request = post(GRAPHQL, json!({ "query": "{ caller }" }));
    let token = "Bearer good".parse().expect("header");
    request.headers_mut().insert(header::AUTHORIZATION, token);
    assert_eq!(client.send(request).await.body, json!({ "data": { "caller": "alice" } }));
    assert_eq!(client.query("{ caller }").await.body, json!({ "data": { "caller": "nobody" } }));
}

#[tokio::test]
async fn gate_refuses_before_the_body_is_read() {
    let client = Client::new();
    let with_token = |token: &str| {
        let mut request = post(GRAPHQL, json!({}));
        *request.body_mut() = Body::from_stream(stream::pending::<Result<String, std::io::Error>>());
        let token = token.parse().expect("header");
        request.headers_mut().insert(header::AUTHORIZATION, token);
        request
    };
    let answer = client.send(with_token("Bearer bad")).await;
    answer.assert_refused(StatusCode::UNAUTHORIZED);
    assert_eq!(answer.code(), "UNAUTHENTICATED");
    assert_eq!(answer.header(header::WWW_AUTHENTICATE), "Bearer");

    let answer = client.send(with_token("Bearer later")).await;
    answer.assert_refused(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::RETRY_AFTER), "7");
    assert_json_snapshot!(answer.body, @r#"
    {
      "errors": [
        {
          "extensions": {
            "code": "UNAVAILABLE",
            "retryAfterSeconds": 7
          },
          "message": "Not now."
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn mutation_continues_after_its_client_disconnects() {
    let client = Client::new();
    let request = post(GRAPHQL, json!({ "query": "mutation { setLater(value: 7) }" }));
    let call = tokio::spawn(client.router.clone().oneshot(request));
    within(client.world.started.notified()).await;
    call.abort();
    assert!(within(call).await.is_err_and(|error| error.is_cancelled()));
    client.world.go_on.notify_waiters();
    within(client.world.dropped.notified()).await;
    assert_eq!(client.world.value.load(Ordering::SeqCst), 7);
}
