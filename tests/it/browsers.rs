//! Requests of browsers: what succeeds from the console's own pages, from allowed origins and from any other page.

use std::net::SocketAddr;

use http::Method;
use keymark::http::front::Front;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::actors::{ALL, App, Caller, HOST_NAME, OWN_ORIGIN, PASSWORD, Setup, unknown_key};
use crate::support::sockets::{Event, Socket};
use crate::support::within;

const CREATE: &str = r#"{"query":"mutation { createSystem(name: \"Forged\") { system { id } } }"}"#;
const VIEWER: &str = r#"{"query":"{ viewer { username } }"}"#;
const ORIGINS: [Option<&str>; 6] = [
    None,
    Some(OWN_ORIGIN),
    Some("https://keymark.test"),
    Some("http://evil.test"),
    Some("null"),
    Some("https://app.example.com"),
];
const CONTENT_TYPES: [Option<&str>; 5] = [
    Some("application/json"),
    Some("text/plain"),
    Some("application/x-www-form-urlencoded"),
    Some("multipart/form-data; boundary=x"),
    None,
];
const SITES: [Option<&str>; 5] = [None, Some("same-origin"), Some("none"), Some("same-site"), Some("cross-site")];

async fn app() -> App {
    let front = Front { allowed_origins: vec!["https://app.example.com".to_owned()], ..Front::default() };
    App::embedded_with(Setup { front, ..Setup::default() }).await
}

fn with<'a>(caller: Caller<'a>, name: &str, value: Option<&str>) -> Caller<'a> {
    match value {
        Some(value) => caller.with(name, value),
        None => caller,
    }
}

#[tokio::test]
async fn cookie_permits_changes_only_from_the_consoles_own_pages() {
    let app = app().await;
    let operator = app.operator(&["view", "create", "delete"]).await;
    let mut changed = Vec::new();
    for cookie in [Some(format!("keymark-session={}", operator.token)), Some("keymark-session=x.y.z".to_owned()), None]
    {
        for origin in ORIGINS {
            for content_type in CONTENT_TYPES {
                for site in SITES {
                    let browser = with(app.anonymous(), "cookie", cookie.as_deref());
                    let browser = with(with(browser, "origin", origin), "content-type", content_type);
                    let browser = with(browser, "sec-fetch-site", site);
                    browser.send(Method::POST, "/graphql", &[], CREATE.to_owned()).await;
                    browser
                        .get("/graphql?query=mutation%20%7BcreateSystem(name:%22Forged%22)%7Bsystem%7Bid%7D%7D%7D")
                        .await;
                    let list = operator.query("{ systems { nodes { id } } }", json!({})).await;
                    for system in list.data("systems.nodes").as_array().unwrap() {
                        changed.push((cookie.clone(), origin, content_type));
                        operator.delete_system(system["id"].as_str().unwrap()).await;
                    }
                }
            }
        }
    }
    let valid = Some(format!("keymark-session={}", operator.token));
    assert_eq!(changed, vec![(valid, Some(OWN_ORIGIN), Some("application/json")); 5]);
}

#[tokio::test]
async fn cookie_permits_changes_over_a_socket_only_from_the_consoles_own_pages() {
    let app = app().await;
    let operator = app.operator(&["view", "create"]).await;
    let (address, cookie) = (app.listen().await, format!("keymark-session={}", operator.token));
    let own = format!("http://{address}");
    let mut changed = Vec::new();
    for origin in ORIGINS.into_iter().chain([Some(own.as_str())]) {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let mut socket = match Socket::upgrade(address, &headers).await {
            Ok(socket) => socket,
            Err(status) => {
                assert_eq!(status, 403, "{origin:?}");
                continue;
            }
        };
        socket.send(json!({ "type": "connection_init" })).await;
        if let Err(code) = socket.acknowledged().await {
            assert_eq!((code, origin), (4403, Some("https://app.example.com")), "its cookie is not used");
            continue;
        }
        let create = format!("mutation {{ createSystem(name: \"Forged {}\") {{ system {{ id }} }} }}", changed.len());
        socket.send(json!({ "type": "subscribe", "id": "1", "payload": { "query": create } })).await;
        match socket.event().await {
            Event::Next(_) => changed.push(origin),
            other => assert_eq!(other, Event::Error("FORBIDDEN".to_owned()), "{origin:?}"),
        }
    }
    // Browsers send an origin with every upgrade, so a client without one is no page that could forge a request.
    assert_eq!(changed, [None, Some(own.as_str())]);
}

#[tokio::test]
async fn cookie_permits_reads_only_from_own_pages_and_the_address_bar() {
    let app = app().await;
    let operator = app.operator(&["view"]).await;
    for origin in ORIGINS {
        for site in SITES {
            let browser = app.anonymous().with_cookie(&operator.token);
            let browser = with(with(browser, "origin", origin), "sec-fetch-site", site);
            let json = [("content-type", "application/json")];
            let posted = browser.send(Method::POST, "/graphql", &json, VIEWER.to_owned()).await;
            let got = browser.get("/graphql?query=%7Bviewer%7Busername%7D%7D").await;
            let exported = browser.get("/audit/export?format=jsonl").await;
            let own = origin == Some(OWN_ORIGIN) || (origin.is_none() && matches!(site, Some("same-origin" | "none")));
            for answer in [posted, got] {
                assert_eq!(answer.text.contains(&operator.username), own, "{origin:?} {site:?}: {}", answer.text);
            }
            assert_eq!(exported.status == 200, own, "{origin:?} {site:?}: {}", exported.status);
        }
    }
}

#[tokio::test]
async fn stale_cookie_is_treated_as_signed_out() {
    let app = app().await;
    let operator = app.operator(&["view"]).await;
    operator.sign_out().await;
    for token in [operator.token.as_str(), "x.y.z", ""] {
        let browser = app.anonymous().with_cookie(token).on_own_page();
        let answer = browser.query("{ viewer { username } }", json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.data("viewer")), (200, &json!(null)), "and may sign in again");
    }
    let browser = app.anonymous().with_cookie(&operator.token).on_own_page();
    browser.sign_in(&operator.username, PASSWORD).await.data("signIn.token");
}

#[tokio::test]
async fn cookie_is_not_available_to_scripts_or_other_sites() {
    let app = app().await;
    app.add_operator("acme", "ada", &[]).await;
    let answer = app.anonymous().on_own_page().sign_in("ada", PASSWORD).await;
    let token = answer.data("signIn.token").as_str().unwrap();
    let cookie = answer.header("set-cookie").expect("a cookie").replace(token, "[token]");
    insta::assert_snapshot!(cookie, @"keymark-session=[token]; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    let browser = app.anonymous().with_cookie(token).on_own_page();
    let signed_out = browser.query("mutation { signOut { signedOut } }", json!({})).await;
    insta::assert_snapshot!(
        signed_out.header("set-cookie").expect("a cookie"),
        @"keymark-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
    );
    assert_eq!(app.anonymous().sign_in("ada", "wrong").await.header("set-cookie"), None);

    let front = Front { public_origin: Some("https://keys.example.com".to_owned()), ..Front::default() };
    let app = App::embedded_with(Setup { front, ..Setup::default() }).await;
    app.add_operator("acme", "ada", &[]).await;
    let answer = app.anonymous().sign_in("ada", PASSWORD).await;
    let token = answer.data("signIn.token").as_str().unwrap();
    insta::assert_snapshot!(
        answer.header("set-cookie").expect("a cookie").replace(token, "[token]"),
        @"__Host-keymark-session=[token]; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
    );
    let named = |name: &str| {
        app.anonymous().with("cookie", format!("{name}={token}")).with("origin", "https://keys.example.com")
    };
    let viewer = "{ viewer { username } }";
    assert_eq!(named("__Host-keymark-session").query(viewer, json!({})).await.data("viewer.username"), "ada");
    assert_eq!(named("keymark-session").query(viewer, json!({})).await.data("viewer"), &json!(null));
}

#[tokio::test]
async fn refused_origin_is_named_with_the_settings_that_admit_it() {
    let app = app().await;
    let operator = app.operator(&["view"]).await;
    let message = async |origin: &str, cookie: bool, upgrade: bool| {
        let cookie = cookie.then(|| format!("keymark-session={}", operator.token));
        let browser = with(app.anonymous().with("origin", origin), "cookie", cookie.as_deref());
        let answer = if upgrade {
            let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
            headers.into_iter().fold(browser, |browser, (name, value)| browser.with(name, value)).get("/graphql").await
        } else {
            let browser = browser.with("content-type", "application/json");
            browser.send(Method::POST, "/graphql", &[], VIEWER.to_owned()).await
        };
        assert_eq!((answer.status.as_u16(), answer.code()), (403, Some("FORBIDDEN")), "{origin}");
        let message = answer.body["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(!message.contains(&operator.token));
        message
    };
    let behind_tls = "https://keymark.test";
    insta::assert_snapshot!(message(behind_tls, true, false).await, @"The request comes from https://keymark.test, which is not allowed, and the console's own is http://keymark.test. If browsers open the console at this address, set --public-origin to https://keymark.test. If it is another frontend, list its origin in --allowed-origins, and use a bearer token instead of the cookie.");
    insta::assert_snapshot!(message("http://localhost:5173", false, true).await, @"The request comes from http://localhost:5173, which is not allowed, and the console's own is http://keymark.test. If browsers open the console at this address, set --public-origin to http://localhost:5173. If it is another frontend, list its origin in --allowed-origins.");
    insta::assert_snapshot!(message("https://app.example.com", true, false).await, @"The request comes from https://app.example.com, which --allowed-origins admits with a bearer token, and not with the console's cookie. Send `Authorization: Bearer <token>`, and no cookie.");
    insta::assert_snapshot!(message("null", true, true).await, @"The request comes from null, which is not allowed, and the console's own is http://keymark.test. Serve the page over HTTPS and list its origin in --allowed-origins, and use a bearer token instead of the cookie.");
    insta::assert_snapshot!(message("https://a.example, or sign in at https://evil.example", true, true).await, @"The request comes from an unreadable origin, which is not allowed, and the console's own is http://keymark.test. Serve the page over HTTPS and list its origin in --allowed-origins, and use a bearer token instead of the cookie.");
    for upgrade in [true, false] {
        assert_eq!(message(behind_tls, true, upgrade).await, message(behind_tls, true, false).await);
    }
}

#[tokio::test]
async fn cors_admits_allowed_origins_but_never_their_cookie() {
    let app = app().await;
    let operator = app.operator(&["view", "create"]).await;
    let preflight = |origin: &'static str| {
        let asked = app.anonymous().with("origin", origin).with("access-control-request-method", "POST");
        let asked = asked.with("access-control-request-headers", "authorization,content-type");
        async move { asked.send(Method::OPTIONS, "/graphql", &[], String::new()).await }
    };
    let allowed = preflight("https://app.example.com").await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("accept,authorization,content-type,x-keymark-tenant")
    );
    for answer in [&allowed, &preflight("http://evil.test").await] {
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    for origin in ["http://evil.test", "null", "https://app.example.com.evil.test"] {
        assert_eq!(preflight(origin).await.header("access-control-allow-origin"), None, "{origin}");
    }
    let page = (*operator).clone().with("origin", "https://app.example.com");
    let json_type = [("content-type", "application/json")];
    let created = page.send(Method::POST, "/graphql", &json_type, CREATE.to_owned()).await;
    created.data("createSystem.system.id");
    assert_eq!(created.header("access-control-allow-origin"), Some("https://app.example.com"));
    let cookie = app.anonymous().with_cookie(&operator.token).with("origin", "https://app.example.com");
    assert_eq!(cookie.send(Method::POST, "/graphql", &json_type, VIEWER.to_owned()).await.status, 403);
}

#[tokio::test]
async fn browsers_can_neither_frame_an_answer_nor_guess_its_type() {
    let app = app().await;
    let operator = app.operator(&ALL).await;
    let caller = app.anonymous();
    let json_type = [("content-type", "application/json")];
    let key = [("x-api-key", "nonsense")];
    let verifier = app.verifier();
    for (answer, status) in [
        (operator.query("{ viewer { username } }", json!({})).await, 200),
        (operator.get("/audit/export?format=jsonl").await, 200),
        (caller.get("/audit/export?format=jsonl").await, 401),
        (caller.get("/graphql").await, 400),
        (caller.send(Method::PUT, "/graphql", &[], String::new()).await, 405),
        (caller.with_cookie(&operator.token).send(Method::POST, "/graphql", &json_type, CREATE.to_owned()).await, 200),
        (app.anonymous().get("/schema.graphql").await, 200),
        (app.anonymous().get("/healthz").await, 200),
        (app.anonymous().get("/readyz").await, 200),
        (app.anonymous().send(Method::POST, "/readyz", &[], String::new()).await, 405),
        (verifier.verify(&unknown_key()).await, 200),
        (verifier.verify(&operator.generate_key(&operator.create_system("Billing").await.id).await.api_key).await, 200),
        (verifier.send(Method::POST, "/v1/verify", &[], String::new()).await, 400),
        (verifier.send(Method::GET, "/v1/verify", &[], String::new()).await, 405),
        (verifier.send(Method::GET, "/v1/forward-auth", &key, String::new()).await, 401),
        (verifier.send(Method::GET, "/metrics", &[], String::new()).await, 200),
        (verifier.send(Method::GET, "/nothing", &[], String::new()).await, 404),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{answer:?}");
        assert_eq!(answer.header("strict-transport-security"), None);
    }
    let page = app.anonymous().get("/sign-in").await;
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'; frame-ancestors 'none'"));
}

#[tokio::test]
async fn browsers_are_told_to_use_tls_if_the_public_origin_has_it() {
    for (origin, expected) in
        [("https://keys.example.com", Some("max-age=31536000")), ("http://keys.example.com", None)]
    {
        let front = Front { public_origin: Some(origin.to_owned()), ..Front::default() };
        let app = App::embedded_with(Setup { front, ..Setup::default() }).await;
        for address in ["/", "/sign-in", "/nowhere", "/graphql", "/schema.graphql", "/healthz"] {
            let answer = app.anonymous().get(address).await;
            assert_eq!(answer.header("strict-transport-security"), expected, "{address}");
        }
    }
}

/// Sends a request as it is; returns the status and the text of the response.
async fn exchange(listener: SocketAddr, request: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(listener).await.expect("connected");
    within(connection.write_all(request.as_bytes())).await.expect("sent");
    let mut response = String::new();
    within(connection.read_to_string(&mut response)).await.expect("read");
    let status = response.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("a response to {request}: {response}")), response)
}

const SIGN_IN: &str = r#"{"query":"mutation { signIn(username: \"ada\", password: \"guess\") { token } }"}"#;

#[tokio::test]
async fn name_that_a_page_rebinds_reaches_neither_listener() {
    let app =
        App::embedded_with(Setup { hosts: &[HOST_NAME, "keymark", "*.internal.example"], ..Setup::default() }).await;
    app.add_operator("acme", "ada", &[]).await;
    let (public, verification) = (app.listen().await, app.listen_for_verifiers().await);
    let mut refused = 0;
    for (listener, request, body) in [
        (public, "POST /graphql", SIGN_IN),
        (public, "GET /graphql?query={__typename}", ""),
        (public, "OPTIONS /graphql", ""),
        (public, "GET /schema.graphql", ""),
        (public, "GET /audit/export?format=csv", ""),
        (public, "GET /", ""),
        (public, "GET /nowhere", ""),
        (verification, "GET /metrics", ""),
        (verification, "POST /v1/verify", r#"{"apiKey":"x"}"#),
        (verification, "GET /v1/forward-auth/a", ""),
        (verification, "GET /nowhere", ""),
    ] {
        let send = async |version: &str, hosts: &[&str]| {
            let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
            let length = body.len();
            let head = format!(
                "{request} HTTP/{version}\r\n{hosts}connection: close\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n"
            );
            exchange(listener, &(head + body)).await
        };
        let own = listener.to_string();
        for host in [own.as_str(), "localhost:1", "[::1]", "192.0.2.1", "keymark:8081", "a.internal.example"] {
            let (status, text) = send("1.1", &[host]).await;
            assert!(![400, 421].contains(&status), "{request} for {host}: {text}");
        }
        let (status, text) = send("1.0", &[]).await;
        assert!(![400, 421].contains(&status), "{request} without a host: {text}");
        for host in ["rebound.example", "rebound.example:8080", "keymark.rebound.example", "internal.example", ""] {
            for version in ["1.0", "1.1"] {
                let (status, text) = send(version, &[host]).await;
                assert_eq!(status, 421, "{request} for {host}: {text}");
                assert!(text.contains("does not serve this host name"), "{text}");
                refused += 1;
            }
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["localhost", "rebound.example"]] {
            let (status, text) = send("1.1", hosts).await;
            assert_eq!(status, 400, "{request} for {hosts:?}: {text}");
            refused += 1;
        }
    }
    let upgrade = Socket::upgrade(public, &[("host", "rebound.example"), ("origin", "http://rebound.example")]).await;
    assert_eq!(upgrade.err().map(|status| status.as_u16()), Some(421));
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let counter = format!("keymark_unknown_hosts_total {}", refused + 1);
    assert!(metrics.lines().any(|line| line == counter), "{counter} in {metrics}");
    let log = app.log_of("acme").await;
    let guesses = log.iter().filter(|entry| entry["event"]["action"] == "SIGN_IN_REFUSED").count();
    assert_eq!(guesses, 7, "those for the hosts that are served, and for none");
}

#[tokio::test]
async fn health_checks_may_name_any_host() {
    let app = App::embedded().await;
    app.wait_for_cache().await;
    let public = app.listen().await;
    for path in ["/healthz", "/readyz"] {
        for head in ["HTTP/1.0\r\n", "HTTP/1.1\r\nhost: keymark.pool.example\r\nconnection: close\r\n"] {
            assert_eq!(exchange(public, &format!("GET {path} {head}\r\n")).await.0, 200, "{path} {head}");
        }
    }
}

#[tokio::test]
async fn forwarded_headers_are_used_only_from_trusted_proxies() {
    let front = Front { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Front::default() };
    let app = App::embedded_with(Setup { front, ..Setup::default() }).await;
    let operator = app.operator(&["view", "create"]).await;
    let create = |name: &str| format!("mutation {{ createSystem(name: \"{name}\") {{ system {{ id }} }} }}");
    for (peer, name) in [("10.1.2.3", "Behind the proxy"), ("192.0.2.9", "By itself")] {
        let caller = (*operator).clone().from(peer).with("x-forwarded-for", "198.51.100.7");
        caller.query(&create(name), json!({})).await.data("createSystem.system.id");
    }
    let log = app.log_of("acme").await;
    let addresses: Vec<_> =
        log.iter().map(|entry| entry["event"]["sourceAddress"].as_str().unwrap_or("none")).collect();
    assert_eq!(addresses, ["none", "127.0.0.1", "198.51.100.7", "192.0.2.9"]);
}

#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let app = app().await;
    let operator = app.operator(&["view", "create"]).await;
    let json_type = [("content-type", "application/json")];
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("7", 400),
        (r#"{"query":7}"#, 400),
        (r#"{"query":"{"}"#, 400),
        (r#"{"query":"{ nonsense }"}"#, 400),
        (r#"{"query":"mutation { createSystem(name: 7) { system { id } } }"}"#, 400),
        (r#"{"query":"mutation { createSystem { system { id } } }"}"#, 400),
        (r#"{"query":"mutation ($n: String!) { createSystem(name: $n) { system { id } } }"}"#, 400),
        (r#"{"query":"mutation { createSystem(name: \"Abc\", colour: 1) { system { id } } }"}"#, 400),
        (r#"{"query":"{ systems(orderBy: { field: COLOUR, direction: ASC }) { nodes { id } } }"}"#, 400),
        (r#"{"query":"{ auditLog(filter: { from: \"yesterday\" }) { nodes { id } } }"}"#, 400),
        (r#"{"query":"subscription { viewerChanged { id } }"}"#, 400),
    ] {
        let answer = operator.send(Method::POST, "/graphql", &json_type, body.to_owned()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, Some("BAD_USER_INPUT")),
            "{body}: {}",
            answer.text
        );
    }
    let large = format!(r#"{{"query":"{{ viewer {{ id }} }} #{}"}}"#, "x".repeat(300_000));
    assert_eq!(operator.send(Method::POST, "/graphql", &json_type, large).await.status, 413);
    let list = operator.query("{ systems { totalCount } }", json!({})).await;
    assert_eq!(list.data("systems.totalCount"), 0);
}
