//! Verifier tokens of the store: what they give access to, and how they end.

use std::time::Duration;

use http::{Method, StatusCode};
use keymark::admin::Command;
use keymark::admin::tokens::{TokenCommand, TokenLife};
use keymark::domain::keys::ApiKey;
use keymark::domain::permissions::Permissions;
use keymark::http::verify::Access;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, Answer, App, Setup, unknown_key};
use crate::support::on_both_stores;
use crate::tokens::{administrator, created, text};

on_both_stores![
    token_of_a_tenant_finds_no_keys_of_others,
    token_is_refused_everywhere_once_it_is_revoked,
    last_use_is_listed,
    tokens_of_a_suspended_tenant_are_refused_until_it_is_resumed,
];

const HEADER: &str = "x-keymark-verifier-token";
const CONFIGURED: &str = "the configured verifier token";

fn restricted() -> Setup {
    Setup { access: || Access { token: Some(CONFIGURED.to_owned().into()), ..Access::default() }, ..Setup::default() }
}

async fn verify(app: &App, headers: &[(&str, &str)], key: &str) -> Answer {
    app.verifier().send(Method::POST, "/v1/verify", headers, json!({ "apiKey": key }).to_string()).await
}

async fn token_of_a_tenant_finds_no_keys_of_others(app: App) {
    let (acme, bolt) = (app.operator(&ALL).await, app.operator_of("bolt", &ALL).await);
    let (own, foreign) = (acme.create_system("Own").await, bolt.create_system("Foreign").await);
    let (own_key, foreign_key) =
        (acme.generate_key(&own.id).await.api_key, bolt.generate_key(&foreign.id).await.api_key);
    let revoked = bolt.create_system("Revoked").await;
    let revoked_key = bolt.generate_key(&revoked.id).await.api_key;
    bolt.revoke_key(&revoked.id).await;
    let tenant = created(&app, "acme", "Gateway", None, false).await;
    let platform = created(&app, "acme", "Everywhere", None, true).await;
    let bypassed = app.instance_with(2, Setup::without_leases()).await;
    let before = app.log_of("bolt").await.len();

    for app in [&app, &bypassed] {
        for token in [&tenant, &platform] {
            let bearer = format!("Bearer {token}");
            for header in [(HEADER, token.as_str()), ("authorization", bearer.as_str())] {
                assert_eq!(verify(app, &[header], &own_key).await.body["code"], "VALID");
            }
        }
        let unknown = unknown_key();
        for key in [&foreign_key, &revoked_key] {
            let (hidden, never) =
                (verify(app, &[(HEADER, &tenant)], key).await, verify(app, &[(HEADER, &tenant)], &unknown).await);
            assert_eq!((hidden.status, &hidden.text), (never.status, &never.text));
            assert_eq!(hidden.body["code"], "NOT_FOUND");
            let forward = async |key: &str| app.verifier().forward_auth(&[(HEADER, &tenant), ("x-api-key", key)]).await;
            let (hidden, never) = (forward(key).await, forward(&unknown).await);
            assert_eq!((hidden.status, &hidden.headers, &hidden.text), (never.status, &never.headers, &never.text));
        }
    }
    // Not even a refused key is recorded.
    app.service.finish().await;
    assert_eq!(app.log_of("bolt").await.len(), before);
    app.service.flush_usage().await.expect("written");
    let used = "query ($id: ID!) { system(id: $id) { lastUsedAt } }";
    assert_eq!(*bolt.query(used, json!({ "id": foreign.id })).await.data("system.lastUsedAt"), Json::Null);

    assert_eq!(verify(&app, &[(HEADER, &platform)], &foreign_key).await.body["code"], "VALID");
    app.service.flush_usage().await.expect("written");
    assert_ne!(*bolt.query(used, json!({ "id": foreign.id })).await.data("system.lastUsedAt"), Json::Null);
    assert_eq!(verify(&app, &[(HEADER, &platform)], &revoked_key).await.body["code"], "REVOKED");
}

#[tokio::test]
async fn tokens_are_required_only_where_one_is_configured() {
    let (open, closed) = (App::embedded().await, App::embedded_with(restricted()).await);
    for app in [&open, &closed] {
        app.operator(&ALL).await;
    }
    let forged = ApiKey::generate(&"kmv".parse().unwrap(), &mut StdRng::seed_from_u64(5)).expose().to_owned();
    let mut mistyped = forged.clone();
    mistyped.pop();
    for (app, is_restricted) in [(&open, false), (&closed, true)] {
        let tenant = created(app, "acme", "Gateway", None, false).await;
        let platform = created(app, "acme", "Everywhere", None, true).await;
        let service = created(app, "acme", "Backend", Some(Default::default()), false).await;
        for (method, path) in
            [(Method::POST, "/v1/verify"), (Method::GET, "/v1/forward-auth"), (Method::GET, "/metrics")]
        {
            let ask = async |headers: &[(&str, &str)]| {
                let body = r#"{"apiKey":"km_x"}"#.to_owned();
                app.verifier().send(method.clone(), path, headers, body).await.status != StatusCode::FORBIDDEN
            };
            let takes_bearer = path != "/v1/forward-auth";
            // Whether each is admitted: as X-Keymark-Verifier-Token, and as a bearer token.
            for (token, admitted) in [
                (tenant.as_str(), path != "/metrics"),
                (&platform, true),
                (&forged, false),
                (&mistyped, false),
                (CONFIGURED, true),
                (&service, !is_restricted),
                ("another text", !is_restricted),
            ] {
                assert_eq!(ask(&[(HEADER, token)]).await, admitted, "{token} in the header for {path}");
                let bearer = format!("Bearer {token}");
                let admitted = if takes_bearer { admitted } else { !is_restricted };
                assert_eq!(ask(&[("authorization", &bearer)]).await, admitted, "{token} as a bearer for {path}");
            }
            assert_eq!(ask(&[]).await, !is_restricted);
            assert_eq!(ask(&[("authorization", "Basic eDp5")]).await, !is_restricted);
        }
        let metrics = app.verifier().send(Method::GET, "/metrics", &[(HEADER, &platform)], String::new()).await.text;
        assert!(metrics.contains("keymark_verifiers_refused_total{reason=\"tenant_token\"} 2"), "{metrics}");
        assert!(metrics.contains("keymark_verifier_tokens 2"), "{metrics}");
    }
}

#[tokio::test]
async fn networks_restrict_holders_of_tokens_too() {
    let access = || Access { networks: vec!["10.0.0.0/8".parse().unwrap()], ..Access::default() };
    let app = App::embedded_with(Setup { access, ..Setup::default() }).await;
    app.operator(&ALL).await;
    let token = created(&app, "acme", "Gateway", None, false).await;
    for (peer, status) in [("10.1.2.3", 401), ("192.0.2.1", 403)] {
        let answer =
            app.verifier().send_from(peer, Method::GET, "/v1/forward-auth", &[(HEADER, &token)], String::new()).await;
        assert_eq!(answer.status.as_u16(), status);
    }
}

#[tokio::test]
async fn holder_of_a_token_may_use_any_host_name() {
    let app = App::embedded_with(Setup { hosts: &[], ..Setup::default() }).await;
    app.add_operator("acme", "ada", &ALL).await;
    let token = created(&app, "acme", "Gateway", None, false).await;
    assert_eq!(app.verifier().forward_auth(&[(HEADER, &token)]).await.status, 401);
    assert_eq!(app.verifier().forward_auth(&[]).await.status, 421);
}

#[tokio::test]
async fn expired_token_is_refused_and_counted() {
    let app = App::embedded_with(restricted()).await;
    app.operator(&ALL).await;
    let command = TokenCommand::Create {
        name: "Gateway".to_owned(),
        permissions: None,
        is_platform: false,
        life: TokenLife::Seconds(3_600),
    };
    let said = app.command(Command::Token { tenant: "acme".parse().unwrap(), command }).await.expect("created");
    let token = said.split(&[' ', '\n'][..]).find(|word| word.starts_with("kmv_")).expect("a token").to_owned();
    let ask = async || app.verifier().forward_auth(&[(HEADER, &token)]).await.status.as_u16();
    app.clock.advance(Duration::from_millis(3_599_999));
    assert_eq!(ask().await, 401);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(ask().await, 403);
    let metrics = app.verifier().send(Method::GET, "/metrics", &[(HEADER, CONFIGURED)], String::new()).await.text;
    assert!(metrics.contains("keymark_verifiers_refused_total{reason=\"expired_token\"} 1"), "{metrics}");
}

async fn token_is_refused_everywhere_once_it_is_revoked(app: App) {
    let admin = administrator(&app).await;
    let instances = [app.instance_with(2, restricted()).await, app.instance_with(3, restricted()).await];
    let bypassed = Setup { timing: Setup::without_leases().timing, ..restricted() };
    let bypassed = app.instance_with(4, bypassed).await;
    let create = "mutation ($name: String!) { createVerifierToken(name: $name) {
        token verifierToken { id name mark expiresAt tenant { id } createdBy { name } } enforcement { state } } }";
    let revoke = "mutation ($id: ID!) { revokeVerifierToken(id: $id) { revokedTokenId enforcement { state } } }";
    for round in 0..3 {
        let answer = admin.query(create, json!({ "name": format!("Gateway {round}") })).await;
        let token = text(&answer, "createVerifierToken.token");
        let shown = answer.data("createVerifierToken.verifierToken");
        assert!(token.starts_with("kmv_") && token.ends_with(shown["mark"].as_str().unwrap()));
        assert_eq!((&shown["expiresAt"], &shown["tenant"]["id"]), (&Json::Null, &json!("acme")));
        let ask = async |app: &App| app.verifier().forward_auth(&[(HEADER, &token)]).await.status.as_u16();
        for instance in instances.iter().chain([&bypassed]) {
            assert_eq!(ask(instance).await, 401, "admitted, without a key");
        }
        let revoked = admin.query(revoke, json!({ "id": shown["id"] })).await;
        assert_eq!(revoked.data("revokeVerifierToken.enforcement.state"), "ENFORCED");
        for instance in instances.iter().chain([&bypassed]) {
            assert_eq!(ask(instance).await, 403);
        }
        assert_eq!(admin.query(revoke, json!({ "id": shown["id"] })).await.code(), Some("NOT_FOUND"));
        let log = Json::from(app.log_of("acme").await).to_string();
        assert!(log.contains("VERIFIER_TOKEN_REVOKED") && !log.contains(&token[4..30]));
    }
}

async fn tokens_of_a_suspended_tenant_are_refused_until_it_is_resumed(app: App) {
    let other = app.instance(2).await;
    let admin = administrator(&app).await;
    app.operator_of("bolt", &ALL).await;
    let boss = created(&app, "bolt", "Boss", Some(Permissions::all_of(true)), true).await;
    let boss = app.anonymous().bearing(&boss);
    let gateways =
        [created(&app, "acme", "Gateway", None, false).await, created(&app, "acme", "All", None, true).await];
    let gateway_of_bolt = created(&app, "bolt", "Gateway", None, true).await;
    let there = other.anonymous().with("authorization", admin.headers[0].1.clone());
    for (document, admitted) in [
        ("mutation { suspendTenant(id: \"acme\") { enforcement { state } } }", false),
        ("mutation { resumeTenant(id: \"acme\") { enforcement { state } } }", true),
    ] {
        assert_eq!(boss.query(document, json!({})).await.code(), None, "{document}");
        let viewer = there.query("{ viewer { username } }", json!({})).await;
        assert_eq!(viewer.code(), if admitted { None } else { Some("TENANT_SUSPENDED") });
        for token in &gateways {
            let answer = other.verifier().forward_auth(&[(HEADER, token)]).await;
            assert_eq!(answer.status, if admitted { 401 } else { 403 });
        }
        assert_eq!(other.verifier().forward_auth(&[(HEADER, &gateway_of_bolt)]).await.status, 401);
    }
}

async fn last_use_is_listed(app: App) {
    let admin = administrator(&app).await;
    let token = created(&app, "acme", "Gateway", None, true).await;
    let list = "{ verifierTokens { nodes { name lastUsedAt tenant { id } } } }";
    let used = async || admin.query(list, json!({})).await.data("verifierTokens.nodes.0").clone();
    assert_eq!(used().await, json!({ "name": "Gateway", "lastUsedAt": null, "tenant": null }));
    app.verifier().forward_auth(&[(HEADER, &token)]).await;
    assert_ne!(used().await["lastUsedAt"], Json::Null);
}
