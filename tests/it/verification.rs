//! Verification of keys: as JSON, and for gateways as headers.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use futures::future::join_all;
use futures::{StreamExt, stream};
use http::Method;
use keymark::http::verify::Access;
use keymark::service::Settings;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::actors::{ALL, App, Generated, Operator, SECRET, Setup, unknown_key};
use crate::support::faulty::{CAUSE, Switch};
use crate::support::process::{Server, directory};
use crate::support::{on_both_stores, within};

on_both_stores![a_verification_returns_the_identity_or_the_reason, a_revoked_key_is_not_found_after_its_retention,];

async fn key(operator: &Operator<'_>, name: &str) -> Generated {
    operator.generate_key(&operator.create_system(name).await.id).await
}

async fn a_verification_returns_the_identity_or_the_reason(app: App) {
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Crédit & Débit").await;
    let revoked = key(&operator, "Payroll").await;
    operator.revoke_key(&revoked.system.id).await;
    let verifier = app.verifier();
    let answers = [
        verifier.verify(&good.api_key).await,
        verifier.verify(&revoked.api_key).await,
        verifier.verify(&unknown_key()).await,
        verifier.verify("km_tooshort").await,
    ];
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let bodies = answers.map(|answer| answer.body);
    assert_eq!((&bodies[0]["systemId"], &bodies[0]["mark"]), (&json!(good.system.id), &json!(good.system.key_mark)));
    insta::allow_duplicates! {
        insta::assert_json_snapshot!(bodies, { "[].systemId" => "[id]", "[].mark" => "[mark]" }, @r#"
        [
          {
            "checkedAt": "2023-11-14T22:13:20.000Z",
            "code": "VALID",
            "keyRole": "CURRENT",
            "mark": "[mark]",
            "systemId": "[id]",
            "systemName": "Crédit & Débit",
            "tenantId": "acme",
            "valid": true
          },
          {
            "code": "REVOKED",
            "mark": "[mark]",
            "since": "2023-11-14T22:13:20.000Z",
            "systemId": "[id]",
            "tenantId": "acme",
            "valid": false
          },
          {
            "code": "NOT_FOUND",
            "valid": false
          },
          {
            "code": "MALFORMED",
            "valid": false
          }
        ]
        "#);
    }
}

#[tokio::test]
async fn a_malformed_key_is_refused_without_a_read_of_the_store() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await.api_key;
    switch.fail();
    let typo = |at: usize| {
        let mut text = good.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let swapped = format!("kn_{}", &good[3..]);
    for presented in [
        "",
        " ",
        "km_",
        &good[..51],
        &format!("{good}A"),
        &format!(" {good}"),
        &typo(10),
        &typo(51),
        &swapped,
        "é",
        &"x".repeat(3000),
    ] {
        assert_eq!(app.verifier().code(presented).await, "MALFORMED", "{presented:?}");
    }
}

#[tokio::test]
async fn while_the_store_is_down_no_key_is_valid_and_no_internals_leak() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::without_leases() }).await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await;
    switch.fail();
    let answer = app.verifier().verify(&good.api_key).await;
    assert_eq!(answer.status, 503);
    insta::assert_json_snapshot!(answer.body, @r#"
    {
      "code": "UNAVAILABLE",
      "message": "The API key cannot be verified right now. Try again.",
      "valid": false
    }
    "#);
    assert_eq!(app.verifier().forward_auth(&[("x-api-key", &good.api_key)]).await.status, 503);
    assert_eq!(app.anonymous().get("/readyz").await.status, 503);
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
    for answer in [
        operator.try_create_system("Payroll").await,
        app.anonymous().sign_in("ada", "whatever it is").await,
        app.anonymous().with_cookie(&operator.token).on_own_page().get("/audit/export?format=csv").await,
    ] {
        assert_eq!(answer.code(), Some("UNAVAILABLE"), "{}", answer.text);
        assert!(!answer.text.contains(CAUSE) && !answer.text.contains("10.1.2.3"), "{}", answer.text);
    }
    switch.work();
    assert_eq!(app.verifier().code(&good.api_key).await, "VALID");
    assert_eq!(app.anonymous().get("/readyz").await.status, 200);
    assert!(operator.is_signed_in().await, "no session was lost");
}

#[tokio::test]
async fn verifications_and_queries_beyond_the_number_that_may_wait_are_unavailable() {
    let app = App::mongodb_with(Setup::without_leases()).await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await.api_key;
    let verifier = app.verifier();
    let verified = join_all((0..4_100).map(|_| verifier.verify(&good))).await;
    let (valid, refused): (Vec<_>, Vec<_>) = verified.iter().partition(|answer| answer.status == 200);
    assert_eq!((valid.len(), refused.len()), (4_000, 100));
    assert!(valid.iter().all(|answer| answer.body["code"] == "VALID"));
    assert!(refused.iter().all(|answer| answer.status == 503 && answer.body["code"] == "UNAVAILABLE"));
    assert!(refused.iter().all(|answer| answer.header("retry-after") == Some("1")));
    let metrics = verifier.send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics.contains("keymark_verifications_total{verdict=\"UNAVAILABLE\"} 100\n"), "{metrics}");

    let caller = app.anonymous().bearing(&operator.token);
    let answers = join_all((0..4_100).map(|_| caller.query("{ viewer { __typename } }", json!({})))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.code().is_some()).collect();
    assert_eq!(refused.len(), 100);
    assert!(refused.iter().all(|answer| answer.code() == Some("UNAVAILABLE")), "{}", refused[0].text);
}

async fn a_revoked_key_is_not_found_after_its_retention(app: App) {
    let operator = app.operator(&ALL).await;
    let (revoked, deleted) = (key(&operator, "Revoked").await, key(&operator, "Deleted").await);
    operator.revoke_key(&revoked.system.id).await;
    operator.delete_system(&deleted.system.id).await;
    for (days, code) in [(0, "REVOKED"), (89, "REVOKED"), (1, "NOT_FOUND"), (1, "NOT_FOUND")] {
        app.clock.advance(Duration::from_secs(days * 24 * 60 * 60));
        for key in [&revoked, &deleted] {
            assert_eq!(app.verifier().code(&key.api_key).await, code);
        }
    }
}

#[tokio::test]
async fn keys_with_other_prefixes_and_previous_secrets_stay_valid() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let old = key(&operator, "Billing").await;
    let settings = Settings { key_prefix: "acme_live".parse().unwrap(), ..Setup::default().settings };
    let secret = "another root secret, which replaces the first";
    let replaced = Setup { settings, secret, previous_secrets: &[SECRET], ..Setup::default() };
    let app = app.instance_with(2, replaced).await;
    let operator = operator.at(&app);
    let new = key(&operator, "Payroll").await;
    assert!(new.api_key.starts_with("acme_live_"), "{}", &new.api_key[..10]);
    assert_eq!(app.verifier().code(&old.api_key).await, "VALID");
    assert_eq!(app.verifier().code(&new.api_key).await, "VALID");
    operator.revoke_key(&old.system.id).await;
    assert_eq!(app.verifier().code(&old.api_key).await, "REVOKED");

    let forgotten = app.instance_with(3, Setup { secret, ..Setup::default() }).await;
    assert_eq!(forgotten.verifier().code(&old.api_key).await, "NOT_FOUND");
    assert_eq!(forgotten.verifier().code(&new.api_key).await, "VALID");
}

#[tokio::test]
async fn a_gateway_receives_the_identity_in_headers() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Crédit & \"Débit\" 日本").await;
    let bearer = format!("Bearer {}", good.api_key);
    for headers in [
        vec![("x-api-key", good.api_key.as_str())],
        vec![("authorization", bearer.as_str())],
        vec![("x-api-key", good.api_key.as_str()), ("authorization", bearer.as_str())],
        vec![("x-api-key", good.api_key.as_str()), ("authorization", "Basic YTpi")],
    ] {
        let answer = app.verifier().forward_auth(&headers).await;
        assert_eq!(answer.status, 200, "{headers:?}");
        assert_eq!(answer.header("x-keymark-tenant-id"), Some("acme"));
        assert_eq!(answer.header("x-keymark-system-id"), Some(good.system.id.as_str()));
        let name = answer.header("x-keymark-system-name");
        assert_eq!(name, Some("Cr%C3%A9dit%20%26%20%22D%C3%A9bit%22%20%E6%97%A5%E6%9C%AC"));
        assert_eq!((answer.text.as_str(), answer.header("cache-control")), ("", Some("no-store")));
    }
    let headers = [("x-api-key", good.api_key.as_str())];
    for address in
        ["/v1/forward-auth", "/v1/forward-auth/any/path", "/v1/forward-auth/a%20b?x=1&apiKey=z", "/v1/forward-auth/"]
    {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let body = "x".repeat(10_000);
            let answer = app.verifier().send(method.clone(), address, &headers, body).await;
            assert_eq!(answer.status, 200, "{method} {address}");
        }
    }
}

#[tokio::test]
async fn a_gateway_is_refused_without_exactly_one_good_key() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let (good, revoked) = (key(&operator, "Billing").await.api_key, key(&operator, "Payroll").await);
    operator.revoke_key(&revoked.system.id).await;
    let (bearer, other) = (format!("Bearer {good}"), format!("Bearer {}", unknown_key()));
    let mut challenges = Vec::new();
    for headers in [
        vec![],
        vec![("x-api-key", "")],
        vec![("x-api-key", "nonsense")],
        vec![("x-api-key", revoked.api_key.as_str())],
        vec![("x-api-key", good.as_str()), ("x-api-key", good.as_str())],
        vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())],
        vec![("x-api-key", good.as_str()), ("authorization", other.as_str())],
        vec![("authorization", good.as_str())],
        vec![("authorization", "Basic YTpi")],
    ] {
        let answer = app.verifier().forward_auth(&headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("x-keymark-tenant-id"), None);
        challenges.push(answer.header("www-authenticate").expect("a challenge").to_owned());
    }
    challenges.dedup();
    insta::assert_snapshot!(challenges.join("\n"), @r#"
    Bearer realm="keymark"
    Bearer realm="keymark", error="invalid_token", error_description="MALFORMED"
    Bearer realm="keymark", error="invalid_token", error_description="REVOKED"
    Bearer realm="keymark"
    "#);
    let in_query = format!("/v1/forward-auth?apiKey={good}&x-api-key={good}&access_token={good}");
    assert_eq!(app.verifier().send(Method::GET, &in_query, &[], String::new()).await.status, 401);
}

#[tokio::test]
async fn an_invalid_header_is_refused_beside_a_good_key_in_another() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await.api_key;
    let bearer = format!("Bearer {good}");
    for headers in [
        [("x-api-key", good.as_str()), ("authorization", "Bearer \u{e9}")],
        [("x-api-key", good.as_str()), ("authorization", "\u{e9}")],
        [("x-api-key", "\u{e9}"), ("authorization", bearer.as_str())],
    ] {
        let answer = app.verifier().forward_auth(&headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("x-keymark-tenant-id"), None);
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="keymark""#));
    }
}

#[tokio::test]
async fn a_good_key_in_a_list_is_a_bad_request() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await.api_key;
    for body in [json!([good]), json!([[good]]), json!([{ "apiKey": good }]), json!(good)] {
        let answer = app.verifier().send(Method::POST, "/v1/verify", &[], format!("\n {body}")).await;
        assert_eq!((answer.status.as_u16(), &answer.body["valid"]), (400, &json!(false)), "{body}");
        assert_eq!(answer.body["code"], "BAD_REQUEST");
    }
    let question = format!("\n {}", json!({ "apiKey": good }));
    assert_eq!(app.verifier().send(Method::POST, "/v1/verify", &[], question).await.body["code"], "VALID");
}

#[tokio::test]
async fn only_allowed_callers_get_a_verdict() {
    let token = || Access { token: Some("the verifier's own token".to_owned().into()), ..Access::default() };
    let networks = || Access {
        networks: vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()],
        ..Access::default()
    };
    let by_token = App::embedded_with(Setup { access: token, ..Setup::default() }).await;
    let good = [("x-keymark-verifier-token", "the verifier's own token")];
    let bad = [("x-keymark-verifier-token", "the verifier's own toke")];
    let by_network = App::embedded_with(Setup { access: networks, ..Setup::default() }).await;
    for (method, address) in
        [(Method::POST, "/v1/verify"), (Method::GET, "/v1/forward-auth"), (Method::GET, "/metrics")]
    {
        let ask = |app, peer, headers| {
            let (verifier, method) = (App::verifier(app), method.clone());
            async move { verifier.send_from(peer, method, address, headers, r#"{"apiKey":"x"}"#.to_owned()).await }
        };
        assert_ne!(ask(&by_token, "203.0.113.1", &good[..]).await.status, 403, "{address}");
        for headers in [&bad[..], &[]] {
            let refused = ask(&by_token, "127.0.0.1", headers).await;
            assert_eq!((refused.status.as_u16(), refused.body["code"].as_str()), (403, Some("FORBIDDEN")), "{address}");
        }
        for (peer, admitted) in
            [("10.200.0.1", true), ("192.0.2.1", true), ("192.0.2.2", false), ("127.0.0.1", false), ("::1", false)]
        {
            assert_eq!(ask(&by_network, peer, &[]).await.status != 403, admitted, "{address} from {peer}");
        }
    }
}

#[tokio::test]
async fn refused_verifiers_are_counted_and_one_a_minute_is_logged_with_its_source() {
    const TOKEN: &str = "the verifier's own token";
    let directory = directory();
    let variables = [("KEYMARK_VERIFIER_TOKEN", TOKEN)];
    let server = Server::start_with(directory.path(), &variables, &[]).await;
    let send = async |token: Option<&str>, path: &str| {
        let request = server.client.get(format!("{}{path}", server.verification));
        let request =
            token.into_iter().fold(request, |request, token| request.header("x-keymark-verifier-token", token));
        within(request.send()).await.expect("an answer")
    };
    for token in [Some("a mistyped token"), Some("another mistyped token"), None] {
        assert_eq!(send(token, "/v1/forward-auth").await.status(), 403);
    }
    let metrics = send(Some(TOKEN), "/metrics").await.text().await.expect("text");
    for line in ["{reason=\"wrong_token\"} 2", "{reason=\"no_token\"} 1", "{reason=\"network\"} 0"] {
        assert!(metrics.contains(&format!("keymark_verifiers_refused_total{line}")), "{metrics}");
    }
    let (_, log) = server.stop().await;
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("verifier refused")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("WARN") && warnings[0].contains("source=127.0.0.1"), "{log}");
    assert!(warnings[0].contains("wrong verifier token") && !log.contains("mistyped"), "{log}");
}

#[tokio::test]
async fn caller_with_the_verifier_token_may_use_any_host_name() {
    let access = || Access { token: Some("the verifier's own token".to_owned().into()), ..Access::default() };
    let app = App::embedded_with(Setup { access, hosts: &[], ..Setup::default() }).await;
    let good = [("x-keymark-verifier-token", "the verifier's own token")];
    for (address, status) in [("/metrics", 200), ("/v1/forward-auth", 401)] {
        assert_eq!(app.verifier().send(Method::GET, address, &good, String::new()).await.status, status);
        assert_eq!(app.verifier().send(Method::GET, address, &[], String::new()).await.status, 403);
    }
    let open = App::embedded_with(Setup { hosts: &[], ..Setup::default() }).await;
    for address in ["/metrics", "/v1/forward-auth"] {
        let answer = open.verifier().send(Method::GET, address, &good, String::new()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (421, &json!("UNKNOWN_HOST")));
    }
}

#[tokio::test]
async fn an_invalid_body_is_a_bad_request() {
    let app = App::embedded().await;
    for body in ["", "{", "[]", "{}", r#"{"apiKey":7}"#, r#"{"apiKey":null}"#, r#"{"key":"x"}"#] {
        let answer = app.verifier().send(Method::POST, "/v1/verify", &[], body.to_owned()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["valid"]), (400, &json!(false)), "{body}");
        assert_eq!(answer.body["code"], "BAD_REQUEST");
    }
    let large = format!(r#"{{"apiKey":"{}"}}"#, "x".repeat(5000));
    assert_eq!(app.verifier().send(Method::POST, "/v1/verify", &[], large).await.status, 413);
    assert_eq!(app.verifier().send(Method::GET, "/v1/verify", &[], String::new()).await.status, 405);
    let escaped = json!({ "apiKey": "km_\u{e9}\n\"" }).to_string();
    assert_eq!(app.verifier().send(Method::POST, "/v1/verify", &[], escaped).await.body["code"], "MALFORMED");
}

#[tokio::test]
async fn a_body_in_pieces_is_read_and_an_endless_one_times_out() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let good = json!({ "apiKey": key(&operator, "Billing").await.api_key }).to_string();
    let anonymous = app.anonymous();
    let ask = |pieces: Vec<String>, ends: bool| {
        let pieces = stream::iter(pieces).map(Ok::<_, Infallible>);
        let pieces = if ends { pieces.boxed() } else { pieces.chain(stream::pending()).boxed() };
        anonymous.ask(Method::POST, "/v1/verify", &[], Body::from_stream(pieces))
    };
    let pieces = || good.chars().map(String::from).collect::<Vec<_>>();
    assert_eq!(ask(pieces(), true).await.body["code"], "VALID");
    assert_eq!(ask(vec![" ".repeat(4096 - good.len()), good.clone()], true).await.body["code"], "VALID");
    let large = ask(vec![" ".repeat(4097 - good.len()), good.clone()], false).await;
    assert_eq!((large.status.as_u16(), &large.body["code"]), (413, &json!("BAD_REQUEST")));
    // The paused clock advances once every task waits for it.
    tokio::time::pause();
    let late = ask(pieces(), false).await;
    assert_eq!((late.status.as_u16(), &late.body["code"]), (408, &json!("BAD_REQUEST")));
}

#[tokio::test]
async fn other_paths_are_not_found_and_other_methods_not_allowed() {
    let app = App::embedded().await;
    for path in ["/", "/v1/verify/", "/v1/verify/x", "/v1/forward-authx", "/v1", "/metrics/", "/graphql", "*"] {
        let answer = app.verifier().send(Method::GET, path, &[], String::new()).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, ""), "{path}");
    }
    for (path, methods, allowed) in [
        ("/v1/verify", [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT], "POST"),
        ("/metrics", [Method::POST, Method::DELETE, Method::OPTIONS, Method::PUT], "GET,HEAD"),
    ] {
        for method in methods {
            let answer = app.verifier().send(method.clone(), path, &[], String::new()).await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_reused_for_several_requests() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let Generated { system, api_key: good } = key(&operator, "Billing").await;
    let mut connection = TcpStream::connect(app.listen_for_verifiers().await).await.expect("connected");
    let body = json!({ "apiKey": good }).to_string();
    let questions = [
        format!("POST /v1/verify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        "HEAD /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        format!("GET /v1/forward-auth/a?b HTTP/1.1\r\nhost: localhost\r\nx-api-key: {good}\r\n\r\n"),
        "GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(),
    ];
    within(connection.write_all(questions.concat().as_bytes())).await.expect("sent");
    let mut answers = String::new();
    within(connection.read_to_string(&mut answers)).await.expect("read");
    let lines = answers.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    let metrics = lines.lines().filter(|line| line.starts_with("content-length:")).nth(1).expect("a length");
    let redacted = lines.replace(&system.id, "[id]").replace(&good[48..], "[mark]").replace(metrics, "[length]");
    insta::assert_snapshot!(redacted, @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    cache-control: no-store
    x-content-type-options: nosniff
    content-security-policy: default-src 'none'; frame-ancestors 'none'
    content-length: 187

    {"valid":true,"code":"VALID","tenantId":"acme","systemId":"[id]","systemName":"Billing","mark":"[mark]","keyRole":"CURRENT","checkedAt":"2023-11-14T22:13:20.000Z"}HTTP/1.1 200 OK
    content-type: application/openmetrics-text; version=1.0.0; charset=utf-8
    x-content-type-options: nosniff
    content-security-policy: default-src 'none'; frame-ancestors 'none'
    [length]

    HTTP/1.1 200 OK
    x-keymark-tenant-id: acme
    x-keymark-system-id: [id]
    x-keymark-system-name: Billing
    x-keymark-key-mark: [mark]
    cache-control: no-store
    x-content-type-options: nosniff
    content-security-policy: default-src 'none'; frame-ancestors 'none'
    content-length: 0

    HTTP/1.1 404 Not Found
    x-content-type-options: nosniff
    content-security-policy: default-src 'none'; frame-ancestors 'none'
    connection: close
    content-length: 0
    "#);
}

#[tokio::test]
async fn verdicts_are_counted() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let good = key(&operator, "Billing").await;
    let revoked = key(&operator, "Payroll").await;
    operator.revoke_key(&revoked.system.id).await;
    for presented in [&good.api_key, &good.api_key, &unknown_key(), "nonsense", &revoked.api_key] {
        app.verifier().verify(presented).await;
    }
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await;
    for line in [
        r#"keymark_verifications_total{verdict="VALID"} 2"#,
        r#"keymark_verifications_total{verdict="NOT_FOUND"} 1"#,
        r#"keymark_verifications_total{verdict="MALFORMED"} 1"#,
        r#"keymark_verifications_total{verdict="REVOKED"} 1"#,
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} in {}", metrics.text);
    }
}
