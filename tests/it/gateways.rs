//! Gateways in front of an API: nginx, Caddy and HAProxy with the configuration files in `docs/gateways/`.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use futures::{SinkExt, StreamExt};
use http::Method;
use keymark::domain::keys::ApiKey;
use keymark::http::front::Front;
use keymark::http::verify::{Access, Routes};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::actors::{ALL, Answer, App, Setup};
use crate::support::faulty::Switch;
use crate::support::gateways::{
    Changes, Client, ClosesKeptConnections, Echo, Gateway, Listening, Program, lasting_requests, received,
    received_names,
};
use crate::support::within;

/// Generates three tests for each case, one per gateway.
macro_rules! through_every_gateway {
    [$($case:ident),+ $(,)?] => {$(
        mod $case {
            use crate::support::gateways::Program;

            #[tokio::test]
            async fn nginx() {
                super::$case(Program::Nginx).await;
            }

            #[tokio::test]
            async fn caddy() {
                super::$case(Program::Caddy).await;
            }

            #[tokio::test]
            async fn haproxy() {
                super::$case(Program::Haproxy).await;
            }
        }
    )+};
}

through_every_gateway![
    api_receives_the_identity_of_a_good_key_and_not_the_key,
    api_receives_the_external_id_of_the_system,
    api_receives_the_key_if_so_configured,
    request_without_exactly_one_good_key_is_refused,
    revoked_key_is_refused_on_the_next_request,
    identity_headers_cannot_be_forged,
    requests_are_refused_while_the_store_fails,
    requests_are_refused_while_keymark_is_down_or_hangs,
    connections_are_reused,
    request_survives_the_closing_of_a_reused_connection,
    gateway_sends_its_own_token_and_the_address_of_the_client,
    stream_of_a_revoked_key_ends_at_its_bound,
    api_may_have_any_host_name,
];

const NAME: &str = "Crédit & Débit 日本";
const ESCAPED_NAME: &str = "Cr%C3%A9dit%20%26%20D%C3%A9bit%20%E6%97%A5%E6%9C%AC";
const TOKEN: &str = "a-verifier-token-of-the-tests";

/// A gateway with a client in front of it, and Keymark and an API behind it.
struct Site {
    app: App,
    keymark: Listening<Routes>,
    echo: Echo,
    api: Listening<Router>,
    gateway: Gateway,
    client: Client,
}

impl Site {
    async fn with(program: Program, setup: Setup, changes: Changes) -> Self {
        let echo = Echo::default();
        Self { echo: echo.clone(), ..Self::before(program, setup, changes, echo.routes()).await }
    }

    /// A gateway in front of this API.
    async fn before(program: Program, setup: Setup, changes: Changes, api: Router) -> Self {
        let app = App::embedded_with(setup).await;
        let keymark = Listening::start(app.verification_routes()).await;
        let api = Listening::start(api).await;
        let gateway = Gateway::start(program, keymark.address, api.address, changes).await;
        let client = Client::of(&gateway);
        Self { app, keymark, echo: Echo::default(), api, gateway, client }
    }

    async fn of(program: Program) -> Self {
        Self::with(program, Setup::default(), Changes::default()).await
    }

    /// Creates a system; returns a good key of it, and its id.
    async fn key(&self, name: &str) -> (String, String) {
        let operator = self.app.operator(&ALL).await;
        let generated = operator.generate_key(&operator.create_system(name).await.id).await;
        (generated.api_key, generated.system.id)
    }
}

/// Asserts that the gateway refused the request: 401 for lack of a good key, 503 for lack of a verdict.
fn assert_refused(answer: &Answer, status: u16, context: &str) {
    assert_eq!(answer.status, status, "{context}: {}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json"), "{context}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{context}");
    let message = if status == 401 {
        "The request needs one valid API key."
    } else {
        "The API key cannot be verified right now."
    };
    assert_eq!(answer.body["error"], message, "{context}: {}", answer.text);
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{context}");
}

async fn api_receives_the_identity_of_a_good_key_and_not_the_key(program: Program) {
    let site = Site::of(program).await;
    let (key, system) = site.key(NAME).await;
    let bearer = format!("Bearer {key}");
    let body = "0123456789".repeat(10_000);
    for headers in [
        vec![("x-api-key", key.as_str())],
        vec![("authorization", bearer.as_str())],
        vec![("x-api-key", key.as_str()), ("authorization", bearer.as_str())],
    ] {
        for (method, body) in [(Method::GET, ""), (Method::POST, body.as_str()), (Method::DELETE, "")] {
            let answer = site.client.send(method.clone(), "/orders?page=2", &headers, body).await;
            assert_eq!(answer.status, 200, "{method} {headers:?}: {}", answer.text);
            assert_eq!(answer.body["method"], method.as_str());
            assert_eq!(answer.body["uri"], "/orders?page=2");
            assert!(answer.body["body"] == body, "the body is whole");
            assert_eq!(received(&answer, "x-keymark-tenant-id"), ["acme"]);
            assert_eq!(received(&answer, "x-keymark-system-id"), [system.as_str()]);
            assert_eq!(received(&answer, "x-keymark-system-name"), [ESCAPED_NAME]);
            assert_eq!(
                answer.text.matches(&key).count(),
                0,
                "the API does not see the key: {:?}",
                answer.body["headers"]
            );
        }
    }
    assert!(!site.gateway.log().contains(&key), "{}", site.gateway.log());

    let rotate = "mutation ($id: ID!) { rotateKey(systemId: $id) { system { retiringKey { expiresAt } } } }";
    let rotated = site.app.operator(&ALL).await.query(rotate, json!({ "id": system })).await;
    let answer = site.client.get(&[("x-api-key", &key)]).await;
    assert_eq!(received(&answer, "x-keymark-key-mark"), [&key[48..]]);
    let end = rotated.data("rotateKey.system.retiringKey.expiresAt");
    assert_eq!(received(&answer, "x-keymark-key-expires-at"), [end.as_str().expect("a time")]);
}

async fn api_receives_the_external_id_of_the_system(program: Program) {
    let site = Site::of(program).await;
    // The longest name, and the longest external id.
    let (key, system) = site.key(&"😀".repeat(64)).await;
    let operator = site.app.operator(&ALL).await;
    let set = "mutation ($id: ID!, $externalId: String!) {
        setExternalId(systemId: $id, externalId: $externalId) { system { id } } }";
    for (external_id, escaped) in
        [("a/\"b".to_owned(), "a%2F%22b".to_owned()), ("😀".repeat(200), "%F0%9F%98%80".repeat(200))]
    {
        let answer = operator.query(set, json!({ "id": system, "externalId": external_id })).await;
        assert_eq!(answer.code(), None);
        let is_shown = async || site.app.verifier().verify(&key).await.body["externalId"] == external_id.as_str();
        site.app.wait_until(is_shown).await;
        let answer = site.client.get(&[("x-api-key", &key), ("x-keymark-external-id", "forged")]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(received(&answer, "x-keymark-external-id"), [escaped.as_str()]);
    }
}

async fn api_receives_the_key_if_so_configured(program: Program) {
    let changes = Changes { deleted: program.key_removal().to_vec(), ..Changes::default() };
    let site = Site::with(program, Setup::default(), changes).await;
    let (key, _) = site.key("Billing").await;
    let bearer = format!("Bearer {key}");
    let answer = site.client.get(&[("x-api-key", &key), ("authorization", &bearer)]).await;
    assert_eq!(received(&answer, "x-api-key"), [key.as_str()]);
    assert_eq!(received(&answer, "authorization"), [bearer.as_str()]);
}

async fn request_without_exactly_one_good_key_is_refused(program: Program) {
    let site = Site::of(program).await;
    let (good, _) = site.key("Billing").await;
    let (other, id) = site.key("Payroll").await;
    site.app.operator(&ALL).await.revoke_key(&id).await;
    let unknown = ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(99)).expose().to_owned();
    let (bearer, other_bearer) = (format!("Bearer {good}"), format!("Bearer {other}"));
    let challenge = r#"Bearer realm="keymark""#;
    let error = |code| format!(r#"{challenge}, error="invalid_token", error_description="{code}""#);
    for (headers, challenge) in [
        (vec![], challenge.to_owned()),
        (vec![("authorization", "Basic YTpi")], challenge.to_owned()),
        (vec![("x-api-key", "nonsense")], error("MALFORMED")),
        (vec![("x-api-key", unknown.as_str())], error("NOT_FOUND")),
        (vec![("x-api-key", other.as_str())], error("REVOKED")),
        // Two keys.
        (vec![("x-api-key", good.as_str()), ("authorization", other_bearer.as_str())], challenge.to_owned()),
        (vec![("x-api-key", good.as_str()), ("x-api-key", other.as_str())], challenge.to_owned()),
        (vec![("x-api-key", other.as_str()), ("x-api-key", good.as_str())], challenge.to_owned()),
    ] {
        for (method, body) in [(Method::GET, ""), (Method::POST, "a body")] {
            let answer = site.client.send(method, "/orders", &headers, body).await;
            let context = format!("{headers:?}");
            assert_refused(&answer, 401, &context);
            assert_eq!(answer.headers.get_all("www-authenticate").iter().count(), 1, "{context}");
            assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()), "{context}");
        }
    }
    let twice = [("authorization", bearer.as_str()), ("authorization", other_bearer.as_str())];
    let answer = site.client.get(&twice).await;
    match program {
        // nginx refuses two of this header itself.
        Program::Nginx => assert_eq!(answer.status, 400),
        Program::Caddy | Program::Haproxy => assert_refused(&answer, 401, "two bearer tokens"),
    }
    // Every proxy would log a key in the query string.
    let in_query = format!("/orders?apiKey={good}&x-api-key={good}&access_token={good}");
    assert_refused(&site.client.send(Method::GET, &in_query, &[], "").await, 401, "in the query string");
    assert_eq!(site.echo.requests(), 0, "nothing reached the API");
}

async fn api_may_have_any_host_name(program: Program) {
    let site = Site::of(program).await;
    let (key, _) = site.key("Billing").await;
    let answer = site.client.get(&[("x-api-key", &key), ("host", "api.example.com")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(received(&answer, "host"), ["api.example.com"]);
    assert_refused(&site.client.get(&[("host", "api.example.com")]).await, 401, "no key");
}

async fn revoked_key_is_refused_on_the_next_request(program: Program) {
    let site = Site::of(program).await;
    let (key, id) = site.key("Billing").await;
    let operator = site.app.operator(&ALL).await;
    assert_eq!(site.client.get(&[("x-api-key", &key)]).await.status, 200);
    operator.revoke_key(&id).await;
    assert_refused(&site.client.get(&[("x-api-key", &key)]).await, 401, "revoked");
    let next = operator.generate_key(&id).await.api_key;
    assert_eq!(site.client.get(&[("x-api-key", &next)]).await.status, 200);
    operator.delete_system(&id).await;
    assert_refused(&site.client.get(&[("x-api-key", &next)]).await, 401, "deleted");
    assert_eq!(site.echo.requests(), 2);
}

async fn identity_headers_cannot_be_forged(program: Program) {
    let site = Site::of(program).await;
    let (key, system) = site.key("Billing").await;
    let names = ["tenant-id", "system-id", "system-name", "key-mark", "key-expires-at", "external-id"];
    let names = names.into_iter().flat_map(|name| [name.to_owned(), name.replace('-', "_")]);
    let names: Vec<_> = names.collect();
    let forged: Vec<String> = ["X-Keymark-", "x_keymark_", "X_Keymark-", "X-Keymark_"]
        .iter()
        .flat_map(|p| names.iter().map(move |n| format!("{p}{n}")))
        .collect();
    let mut headers: Vec<(&str, &str)> = forged.iter().map(|name| (name.as_str(), "forged")).collect();
    headers.extend(forged.iter().map(|name| (name.as_str(), "forged again")));
    assert_refused(&site.client.get(&headers).await, 401, "no key");
    headers.push(("x-api-key", "nonsense"));
    assert_refused(&site.client.get(&headers).await, 401, "a bad key");
    assert_eq!(site.echo.requests(), 0, "nothing reached the API");
    headers.pop();
    headers.push(("x-api-key", &key));
    // Nor can a client have them removed by declaring them hop-by-hop.
    for connection in
        [None, Some("x-keymark-system-id, X-Keymark-Tenant-Id, x-keymark-external-id"), Some("close, X-Api-Key")]
    {
        let mut headers = headers.clone();
        headers.extend(connection.map(|connection| ("connection", connection)));
        let answer = site.client.get(&headers).await;
        assert_eq!(answer.status, 200, "{connection:?}: {}", answer.text);
        assert_eq!(received(&answer, "x-keymark-tenant-id"), ["acme"], "{connection:?}");
        assert_eq!(received(&answer, "x-keymark-system-id"), [system.as_str()], "{connection:?}");
        assert_eq!(received(&answer, "x-keymark-system-name"), ["Billing"], "{connection:?}");
        let of_keymark = received_names(&answer).iter().filter(|name| name.contains("keymark")).count();
        assert_eq!(received(&answer, "x-keymark-key-mark"), [&key[48..]], "{connection:?}");
        assert_eq!(of_keymark, 4, "{:?}", received_names(&answer));
        let connection = received(&answer, "connection").concat().to_lowercase();
        assert!(!connection.contains("keymark"), "{connection}");
        assert!(!answer.text.contains("forged"), "{}", answer.text);
    }
}

async fn requests_are_refused_while_the_store_fails(program: Program) {
    let switch = Switch::default();
    let setup = Setup { switch: Some(switch.clone()), ..Setup::without_leases() };
    let site = Site::with(program, setup, Changes::default()).await;
    let (key, _) = site.key("Billing").await;
    switch.fail();
    for body in ["", "a body"] {
        let answer = site.client.send(Method::POST, "/orders", &[("x-api-key", &key)], body).await;
        assert_refused(&answer, 503, "the store fails");
    }
    assert_eq!(site.echo.requests(), 0, "nothing reached the API");
    switch.work();
    assert_eq!(site.client.get(&[("x-api-key", &key)]).await.status, 200);
}

async fn requests_are_refused_while_keymark_is_down_or_hangs(program: Program) {
    let mut site = Site::of(program).await;
    let (key, _) = site.key("Billing").await;
    let headers = [("x-api-key", key.as_str())];
    assert_eq!(site.client.get(&headers).await.status, 200);
    site.keymark.stop().await;
    for _ in 0..3 {
        assert_refused(&site.client.get(&headers).await, 503, "down");
    }
    site.keymark.restart().await;
    assert_eq!(site.client.get(&headers).await.status, 200, "up again");
    site.keymark.answer(false);
    assert_refused(&site.client.get(&headers).await, 503, "stuck");
    site.keymark.answer(true);
    assert_eq!(site.client.get(&headers).await.status, 200, "answering again");
    assert_eq!(site.echo.requests(), 3);
    // A failure of the API is not reported as a refusal.
    site.api.stop().await;
    let answer = site.client.get(&headers).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(!answer.text.contains("cannot be verified"), "{}", answer.text);
}

async fn connections_are_reused(program: Program) {
    let site = Site::of(program).await;
    let (key, _) = site.key("Billing").await;
    for _ in 0..50 {
        assert_eq!(site.client.get(&[("x-api-key", &key)]).await.status, 200);
    }
    let connections = [site.keymark.connections(), site.api.connections()];
    assert!(connections.iter().all(|count| *count <= 4), "to Keymark and the API: {connections:?}");
}

async fn request_survives_the_closing_of_a_reused_connection(program: Program) {
    let response = "HTTP/1.1 200 OK\r\nx-keymark-tenant-id: acme\r\nx-keymark-system-id: sys_1\r\n\
        x-keymark-system-name: Billing\r\nx-keymark-key-mark: IImI\r\ncontent-length: 0\r\n\r\n";
    let keymark = ClosesKeptConnections::start(response).await;
    let api = ClosesKeptConnections::start(response).await;
    let gateway = Gateway::start(program, keymark.address, api.address, Changes::default()).await;
    let client = Client::of(&gateway);
    for _ in 0..5 {
        assert_eq!(client.get(&[("x-api-key", "a key")]).await.status, 200);
    }
    assert!(keymark.closed() > 0 && api.closed() > 0, "{} and {}", keymark.closed(), api.closed());
}

async fn gateway_sends_its_own_token_and_the_address_of_the_client(program: Program) {
    let setup = || Setup {
        access: || Access { token: Some(TOKEN.to_owned().into()), ..Access::default() },
        front: Front { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..Front::default() },
        ..Setup::default()
    };
    let without = Site::with(program, setup(), Changes::default()).await;
    let (key, _) = without.key("Billing").await;
    let headers = [("x-api-key", key.as_str()), ("x-keymark-verifier-token", TOKEN)];
    assert_refused(&without.client.get(&headers).await, 503, "the client's token is not the gateway's");
    assert_eq!(without.echo.requests(), 0, "nothing reached the API");

    let changes = Changes { verifier_token: Some(TOKEN), ..Changes::default() };
    let site = Site::with(program, setup(), changes).await;
    let (key, id) = site.key("Billing").await;
    let headers = [("x-api-key", key.as_str()), ("x-keymark-verifier-token", "a guess")];
    let answer = site.client.get(&headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains(TOKEN), "{}", answer.text);

    site.app.operator(&ALL).await.revoke_key(&id).await;
    let elsewhere = Client::at(&site.gateway, IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
    let headers = [("x-api-key", key.as_str()), ("x-forwarded-for", "203.0.113.7")];
    assert_refused(&elsewhere.get(&headers).await, 401, "revoked");
    let log = site.app.log_of("acme").await;
    let refused = log.last().expect("an entry").to_string();
    assert!(refused.contains("127.0.0.2") && !refused.contains("203.0.113.7"), "{refused}");
}

/// The documented bounds are minutes; here they are a second.
fn bounded_by(from: &'static str, to: &'static str) -> Changes {
    Changes { replaced: vec![(from, to)], reloads: true, ..Changes::default() }
}

async fn stream_of_a_revoked_key_ends_at_its_bound(program: Program) {
    let changes = match program {
        Program::Nginx => bounded_by("worker_shutdown_timeout 1m", "worker_shutdown_timeout 1s"),
        Program::Caddy => bounded_by("write 10m", "write 1s"),
        Program::Haproxy => bounded_by("hard-stop-after 1m", "hard-stop-after 1s"),
    };
    let (api, mut pieces, _) = lasting_requests();
    let site = Site::before(program, Setup::default(), changes, api).await;
    let (key, id) = site.key("Billing").await;
    let mut response = site.client.begin(Method::GET, "/stream", &[("x-api-key", &key)], "").await;
    site.app.operator(&ALL).await.revoke_key(&id).await;
    let mut next = async || pieces.send("piece".into()).await.is_ok() && matches!(response.chunk().await, Ok(Some(_)));
    assert!(within(next()).await, "it outlives the revocation");
    match program {
        Program::Nginx | Program::Haproxy => site.gateway.reload(),
        Program::Caddy => {}
    }
    within(async { while next().await {} }).await;
}

#[tokio::test]
async fn caddy_ends_an_upload_at_its_bound() {
    let (api, _, mut arrived) = lasting_requests();
    let changes = bounded_by("read_body 10m", "read_body 1s");
    let site = Site::before(Program::Caddy, Setup::default(), changes, api).await;
    let (key, id) = site.key("Billing").await;
    let mut connection = TcpStream::connect(site.gateway.address).await.expect("connected");
    let head = format!("POST /upload HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("sent");
    let mut next = async || connection.write_all(b"1\r\nx\r\n").await.is_ok() && arrived.next().await.is_some();
    assert!(within(next()).await);
    site.app.operator(&ALL).await.revoke_key(&id).await;
    within(async { while next().await {} }).await;
}

#[tokio::test]
async fn haproxy_ends_a_websocket_when_it_reloads_or_is_idle() {
    for (changes, reloads) in [
        (bounded_by("hard-stop-after 1m", "hard-stop-after 1s"), true),
        (bounded_by("timeout tunnel 60s", "timeout tunnel 1s"), false),
    ] {
        let (api, ..) = lasting_requests();
        let site = Site::before(Program::Haproxy, Setup::default(), changes, api).await;
        let (key, id) = site.key("Billing").await;
        let mut request = format!("ws://{}/socket", site.gateway.address).into_client_request().expect("an address");
        request.headers_mut().insert("x-api-key", key.parse().expect("a value"));
        let (mut socket, _) = within(connect_async(request)).await.expect("upgraded");
        site.app.operator(&ALL).await.revoke_key(&id).await;
        let mut echoes = async |message: &str| {
            socket.send(Message::text(message)).await.is_ok()
                && matches!(socket.next().await, Some(Ok(Message::Text(_))))
        };
        assert!(within(echoes("ping")).await, "it outlives the revocation");
        if reloads {
            site.gateway.reload();
            within(async { while echoes("ping").await {} }).await;
        } else {
            assert!(!matches!(within(socket.next()).await, Some(Ok(_))), "closed without a message");
        }
    }
}
