//! Service tokens: what they may do, how they end, and who manages them.

use std::time::Duration;

use http::{Method, StatusCode};
use keymark::admin::Command;
use keymark::admin::tokens::{TokenCommand, TokenLife};
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId, TokenId};
use keymark::domain::keys::{ApiKey, KeyDigest};
use keymark::domain::permissions::Permissions;
use keymark::domain::quota::Quota;
use keymark::domain::system_names::SystemName;
use keymark::domain::tokens::{MAX_TOKENS, Token, TokenKind};
use keymark::service::Settings;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, Answer, App, Caller, START, Setup};
use crate::support::on_both_stores;
use crate::support::sockets::{Event, Socket};

on_both_stores![
    token_calls_the_api_with_its_codes_and_its_entries_name_it,
    token_that_is_malformed_unknown_or_has_ended_is_refused,
    rotated_token_is_valid_for_the_overlap,
    lost_answer_is_replaced_by_a_rotation_without_overlap,
    nobody_gives_codes_that_they_do_not_hold,
    names_are_unique_by_kind,
    revoked_token_is_refused_on_the_other_instance,
    socket_closes_when_its_token_ends,
    token_of_the_platform_acts_in_every_tenant,
    tokens_are_listed_newest_first_with_their_last_use,
    ids_of_another_tenant_are_unknown,
    tokens_are_managed_on_the_command_line,
];

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const REVOKE: &str = "mutation ($id: ID!) { revokeServiceToken(id: $id) { revokedTokenId enforcement { state } } }";
const CREATE: &str = "mutation ($name: String!, $codes: [String!]!, $end: DateTime, $platform: Boolean! = false) {
    createServiceToken(name: $name, permissions: $codes, expiresAt: $end, isPlatform: $platform) { token
        serviceToken { id name mark permissions isPlatform createdAt createdBy { kind name } expiresAt lastUsedAt }
        enforcement { state } } }";
const ROTATE: &str = "mutation ($id: ID!, $overlap: Int!, $end: DateTime) {
    rotateServiceToken(id: $id, overlapSeconds: $overlap, expiresAt: $end) {
        token serviceToken { id mark expiresAt } enforcement { state } } }";
const VIEWER: &str = "{ viewer { username tenantId permissions isPlatform } }";

/// Creates a token on the command line; returns its text.
pub async fn created(
    app: &App,
    tenant: &str,
    name: &str,
    permissions: Option<Permissions>,
    is_platform: bool,
) -> String {
    let command = TokenCommand::Create { name: name.to_owned(), permissions, is_platform, life: TokenLife::Never };
    let command = Command::Token { tenant: tenant.parse().expect("a tenant"), command };
    let said = app.command(command).await.expect("created");
    let line = said.lines().find_map(|line| line.strip_prefix("Token: ")).expect("a token");
    line.split(' ').next().expect("a token").to_owned()
}

/// A caller of the tenant `acme` by a token with all codes of a tenant, which never expires.
pub async fn administrator(app: &App) -> Caller<'_> {
    app.operator(&ALL).await;
    let token = created(app, "acme", "Administrator", Some(Permissions::all_of(false)), false).await;
    app.anonymous().bearing(&token)
}

pub fn text(answer: &Answer, path: &str) -> String {
    answer.data(path).as_str().expect("text").to_owned()
}

fn code(name: &str) -> String {
    format!("api_key_management:{name}")
}

async fn create(admin: &Caller<'_>, name: &str, codes: &[&str]) -> (String, String) {
    let codes: Vec<_> = codes.iter().map(|name| code(name)).collect();
    let answer = admin.query(CREATE, json!({ "name": name, "codes": codes })).await;
    (text(&answer, "createServiceToken.serviceToken.id"), text(&answer, "createServiceToken.token"))
}

async fn status(app: &App, token: &str) -> u16 {
    app.anonymous().bearing(token).query(VIEWER, json!({})).await.status.as_u16()
}

async fn token_calls_the_api_with_its_codes_and_its_entries_name_it(app: App) {
    let admin = administrator(&app).await;
    let codes = [code("view"), code("create")];
    let answer = admin.query(CREATE, json!({ "name": " Backend ", "codes": codes })).await;
    let token = text(&answer, "createServiceToken.token");
    let shown = answer.data("createServiceToken.serviceToken").clone();
    assert_eq!(answer.data("createServiceToken.enforcement.state"), "ENFORCED");
    assert!(token.starts_with("kmt_") && token.ends_with(shown["mark"].as_str().unwrap()));
    assert_eq!(
        (&shown["name"], &shown["permissions"], &shown["isPlatform"], &shown["lastUsedAt"]),
        (&json!("Backend"), &json!(codes), &json!(false), &Json::Null)
    );
    assert_eq!(shown["createdBy"], json!({ "kind": "SERVICE_TOKEN", "name": "Administrator" }));
    assert_eq!(shown["expiresAt"], START.plus(90 * DAY).to_string());

    let backend = app.anonymous().bearing(&token);
    let viewer = backend.query(VIEWER, json!({})).await;
    assert_eq!(
        *viewer.data("viewer"),
        json!({ "username": "Backend", "tenantId": "acme", "permissions": codes, "isPlatform": false })
    );
    let create = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    let system = text(&backend.query(create, json!({})).await, "createSystem.system.id");
    let delete = "mutation ($id: ID!) { deleteSystem(id: $id) { deletedSystemId } }";
    let refused = backend.query(delete, json!({ "id": system })).await;
    assert_eq!(refused.error()["extensions"]["permission"], code("delete"));
    for document in [
        "mutation { changePassword(currentPassword: \"a\", newPassword: \"correct horse battery\") { token } }",
        "mutation { signOut { signedOut } }",
    ] {
        let refused = backend.query(document, json!({})).await;
        assert_eq!(refused.code(), Some("FORBIDDEN"), "{document}");
        assert!(refused.error()["message"].as_str().unwrap().contains("Sign in as an operator"));
    }

    let log = app.log_of("acme").await;
    let entry = |action: &str| log.iter().find(|entry| entry["event"]["action"] == action).expect("an entry");
    let event = &entry("SYSTEM_CREATED")["event"];
    assert_eq!(event["actor"], json!({ "kind": "SERVICE_TOKEN", "id": shown["id"], "name": "Backend" }));
    let event = &entry("PERMISSION_REFUSED")["event"];
    assert_eq!(event["actor"]["name"], "Backend");
    let event = log.iter().rfind(|entry| entry["event"]["action"] == "SERVICE_TOKEN_CREATED").expect("an entry");
    let event = &event["event"];
    assert_eq!((&event["token"], &event["tokenName"]), (&shown["id"], &json!("Backend")));
    assert_eq!((&event["permissions"], &event["keyMark"]), (&json!(codes), &shown["mark"]));
    assert!(!Json::from(log.clone()).to_string().contains(&token[4..30]), "no entry has the token");
}

async fn token_that_is_malformed_unknown_or_has_ended_is_refused(app: App) {
    let admin = administrator(&app).await;
    let (_, token) = create(&admin, "Backend", &["view"]).await;
    assert_eq!(status(&app, &token).await, 200);
    let mut wrong_checksum = token.clone();
    let last = wrong_checksum.pop().expect("a character");
    wrong_checksum.push(if last == '0' { '1' } else { '0' });
    let unknown =
        |prefix: &str| ApiKey::generate(&prefix.parse().unwrap(), &mut StdRng::seed_from_u64(9)).expose().to_owned();
    let verifier = created(&app, "acme", "Gateway", None, false).await;
    for bad in ["kmt_", "kmt_x", &wrong_checksum, &token[..40], &unknown("kmt"), &unknown("km"), &verifier] {
        assert_eq!(status(&app, bad).await, 401, "{bad}");
        let mut socket =
            Socket::open(app.listen().await, &[], json!({ "authorization": format!("Bearer {bad}") })).await;
        assert_eq!(socket.event().await, Event::Closed(4403));
    }
    let expired = json!({ "name": "Past", "codes": [], "end": START.to_string() });
    assert_eq!(admin.query(CREATE, expired).await.code(), Some("BAD_USER_INPUT"));
    app.clock.advance(90 * DAY - Duration::from_millis(1));
    assert_eq!(status(&app, &token).await, 200);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&app, &token).await, 401);
    let never = admin.query(CREATE, json!({ "name": "Never", "codes": [], "end": null })).await;
    assert_eq!(*never.data("createServiceToken.serviceToken.expiresAt"), Json::Null);
}

async fn rotated_token_is_valid_for_the_overlap(app: App) {
    let admin = administrator(&app).await;
    let (id, first) = create(&admin, "Backend", &["view"]).await;
    let rotate =
        async |overlap: u64, end: Json| admin.query(ROTATE, json!({ "id": id, "overlap": overlap, "end": end })).await;
    let keep = "mutation ($id: ID!, $overlap: Int!) { rotateServiceToken(id: $id, overlapSeconds: $overlap) {
        token serviceToken { mark expiresAt } enforcement { state } } }";
    let rotated = admin.query(keep, json!({ "id": id, "overlap": 3_600 })).await;
    let second = text(&rotated, "rotateServiceToken.token");
    assert_eq!(*rotated.data("rotateServiceToken.serviceToken.expiresAt"), START.plus(90 * DAY).to_string());
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (200, 200));
    assert_eq!(rotate(3_600, Json::Null).await.code(), Some("ROTATION_IN_PROGRESS"));
    assert_eq!(rotate(2_592_001, Json::Null).await.code(), Some("BAD_USER_INPUT"));
    let event = app.log_of("acme").await.pop().expect("an entry")["event"].clone();
    assert_eq!(event["action"], "SERVICE_TOKEN_ROTATED");
    assert_eq!((&event["keyMark"], &event["previousKeyMark"]), (&json!(second[49..]), &json!(first[49..])));

    app.clock.advance(Duration::from_secs(3_600));
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (401, 200));

    // No secret outlives the end that it had.
    app.clock.advance(90 * DAY - Duration::from_secs(7_200));
    let third = text(&rotate(86_400, Json::Null).await, "rotateServiceToken.token");
    assert_eq!(status(&app, &second).await, 200);
    app.clock.advance(Duration::from_secs(3_600));
    assert_eq!((status(&app, &second).await, status(&app, &third).await), (401, 200));

    let end = json!(START.plus(91 * DAY).to_string());
    let fourth = text(&rotate(0, end).await, "rotateServiceToken.token");
    app.clock.advance(DAY);
    assert_eq!(status(&app, &fourth).await, 401, "expired");
    let again = admin.query(keep, json!({ "id": id, "overlap": 0 })).await;
    assert_eq!(again.code(), Some("BAD_USER_INPUT"), "{}", again.text);
    let fifth = text(&rotate(60, Json::Null).await, "rotateServiceToken.token");
    assert_eq!((status(&app, &fourth).await, status(&app, &fifth).await), (401, 200));
}

async fn lost_answer_is_replaced_by_a_rotation_without_overlap(app: App) {
    let admin = administrator(&app).await;
    let (id, lost) = create(&admin, "Backend", &["view"]).await;
    let rotated = admin.query(ROTATE, json!({ "id": id, "overlap": 0 })).await;
    let arrived = text(&rotated, "rotateServiceToken.token");
    assert_eq!(rotated.data("rotateServiceToken.enforcement.state"), "ENFORCED");
    assert_eq!((status(&app, &lost).await, status(&app, &arrived).await), (401, 200));
    // A response can be lost during a rotation with an overlap too, whose retiring secret keeps its end.
    let lost = text(&admin.query(ROTATE, json!({ "id": id, "overlap": 60 })).await, "rotateServiceToken.token");
    let last = text(&admin.query(ROTATE, json!({ "id": id, "overlap": 0 })).await, "rotateServiceToken.token");
    assert_eq!((status(&app, &arrived).await, status(&app, &lost).await, status(&app, &last).await), (200, 401, 200));

    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let lost = operator.generate_key(&system.id).await.api_key;
    let rotate = "mutation ($id: ID!) { rotateKey(systemId: $id, overlapSeconds: 0) { apiKey enforcement { state } } }";
    let rotated = operator.query(rotate, json!({ "id": system.id })).await;
    assert_eq!(rotated.data("rotateKey.enforcement.state"), "ENFORCED");
    assert_ne!(app.verifier().code(&lost).await, "VALID");
    assert_eq!(app.verifier().code(&text(&rotated, "rotateKey.apiKey")).await, "VALID");
}

async fn nobody_gives_codes_that_they_do_not_hold(app: App) {
    let admin = administrator(&app).await;
    let platform = created(&app, "acme", "Platform", Some(Permissions::all_of(true)), true).await;
    let platform = app.anonymous().bearing(&platform);
    let held = ["operator_management:edit", "operator_management:view", "api_key_management:view"];
    let limited = admin.query(CREATE, json!({ "name": "Limited", "codes": held })).await;
    let limited = app.anonymous().bearing(&text(&limited, "createServiceToken.token"));
    let (stronger, _) = create(&admin, "Stronger", &["view", "edit"]).await;

    let create = async |caller: &Caller<'_>, name: &str, codes: &[&str], is_platform: bool| {
        caller.query(CREATE, json!({ "name": name, "codes": codes, "platform": is_platform })).await
    };
    let more = create(&limited, "More", &["api_key_management:view", "api_key_management:edit"], false).await;
    assert_eq!(more.error()["extensions"]["permission"], "api_key_management:edit");
    let rotated = limited.query(ROTATE, json!({ "id": stronger, "overlap": 0 })).await;
    assert_eq!(rotated.error()["extensions"]["permission"], "api_key_management:edit");
    create(&limited, "Same", &held, false).await.data("createServiceToken.token");
    let of_platform = create(&admin, "Above", &[], true).await;
    assert_eq!((of_platform.code(), of_platform.error()["extensions"].get("permission")), (Some("FORBIDDEN"), None));
    let verifier = "mutation { createVerifierToken(name: \"All\", isPlatform: true) { token } }";
    assert_eq!(admin.query(verifier, json!({})).await.code(), Some("FORBIDDEN"));
    platform.query(verifier, json!({})).await.data("createVerifierToken.token");

    for (caller, codes, expected) in [
        (&admin, &["tenant_management:view"][..], "FORBIDDEN"),
        (&platform, &["tenant_management:view"], "BAD_USER_INPUT"),
        (&admin, &["api_key_management:admin"], "BAD_USER_INPUT"),
        (&admin, &["view"], "BAD_USER_INPUT"),
    ] {
        assert_eq!(create(caller, "Bad", codes, false).await.code(), Some(expected), "{codes:?}");
    }
    let above = create(&platform, "Above", &["tenant_management:view"], true).await;
    let above = json!({ "id": above.data("createServiceToken.serviceToken.id"), "overlap": 0 });
    for document in [ROTATE, REVOKE] {
        assert_eq!(admin.query(document, above.clone()).await.code(), Some("FORBIDDEN"));
    }
    platform.query(REVOKE, above).await.data("revokeServiceToken.revokedTokenId");
    limited.query(REVOKE, json!({ "id": stronger })).await.data("revokeServiceToken.revokedTokenId");
}

async fn names_are_unique_by_kind(app: App) {
    let admin = administrator(&app).await;
    let (id, _) = create(&admin, "Backend", &[]).await;
    for (name, code) in [("BACKEND", "NAME_TAKEN"), (" ", "INVALID_NAME"), ("a\u{202e}bc", "INVALID_NAME")] {
        assert_eq!(admin.query(CREATE, json!({ "name": name, "codes": [] })).await.code(), Some(code), "{name}");
    }
    let verifier = "mutation { createVerifierToken(name: \"Backend\") { token } }";
    admin.query(verifier, json!({})).await.data("createVerifierToken.token");
    assert_eq!(admin.query(verifier, json!({})).await.code(), Some("NAME_TAKEN"));
    for (answer, again) in [(None, "revoked"), (Some("NOT_FOUND"), "repeated")] {
        assert_eq!(admin.query(REVOKE, json!({ "id": id })).await.code(), answer, "{again}");
    }
    create(&admin, "backend", &[]).await;
}

#[tokio::test]
async fn a_tenant_has_a_limited_number_of_tokens() {
    let app = App::embedded().await;
    let admin = administrator(&app).await;
    let tenant = "acme".parse().expect("a tenant");
    let mut rng = StdRng::seed_from_u64(7);
    let (actor, request_id) = (AuditActor::command_line(), RequestId::new(START, &mut rng));
    let origin = Origin { actor: actor.clone(), source_address: None, request_id };
    let event = AuditEvent::new(AuditEntryId::new(START, &mut rng), START, &origin, AuditAction::VerifierTokenCreated);
    let mut batch = Batch::new(tenant, event);
    for number in 2..MAX_TOKENS {
        let mut digest = [7; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        batch = batch.insert(Row::Token(Token {
            id: TokenId::new(START, &mut rng),
            tenant: "acme".parse().expect("a tenant"),
            name: SystemName::parse(&format!("Token {number}")).expect("a name"),
            kind: TokenKind::Verifier,
            is_platform: false,
            digest: KeyDigest::from_bytes(digest),
            mark: "abcd".to_owned().try_into().expect("a mark"),
            created_by: actor.clone(),
            expires_at: None,
            revision: 1,
            created_at: START,
            updated_at: START,
        }));
    }
    app.store.commit(batch).await.expect("committed");
    create(&admin, "The last", &[]).await;
    let refused = admin.query(CREATE, json!({ "name": "Too many", "codes": [] })).await;
    assert_eq!(refused.code(), Some("BAD_USER_INPUT"));
    let page = admin.query("{ verifierTokens(first: 200) { totalCount nodes { id } } }", json!({})).await;
    assert_eq!(*page.data("verifierTokens.totalCount"), json!(MAX_TOKENS - 2));
}

async fn revoked_token_is_refused_on_the_other_instance(app: App) {
    let other = app.instance(2).await;
    let admin = administrator(&app).await;
    for round in 0..3 {
        let (id, token) = create(&admin, &format!("Backend {round}"), &["view"]).await;
        assert_eq!(status(&other, &token).await, 200, "created on one instance, used on the other");
        let revoked = admin.query(REVOKE, json!({ "id": id })).await;
        assert_eq!(revoked.data("revokeServiceToken.enforcement.state"), "ENFORCED");
        assert_eq!(status(&other, &token).await, 401);
        let (id, token) = create(&admin, &format!("Rotated {round}"), &["view"]).await;
        let rotated = admin.query(ROTATE, json!({ "id": id, "overlap": 0 })).await;
        assert_eq!((status(&other, &token).await, status(&app, &token).await), (401, 401));
        assert_eq!(status(&other, &text(&rotated, "rotateServiceToken.token")).await, 200);
    }
    let bypassed = app.instance_with(3, Setup::without_leases()).await;
    let (id, token) = create(&admin, "Bypassed", &["view"]).await;
    assert_eq!(status(&bypassed, &token).await, 200, "the cache is bypassed");
    admin.query(REVOKE, json!({ "id": id })).await.data("revokeServiceToken.revokedTokenId");
    assert_eq!(status(&bypassed, &token).await, 401);
}

#[tokio::test]
async fn calls_are_limited_for_each_token() {
    let token_calls = Quota { burst: 2, interval: Duration::from_secs(10) };
    let settings = Settings { token_calls, ..Setup::default().settings };
    let app = App::embedded_with(Setup { settings, ..Setup::default() }).await;
    app.operator(&ALL).await;
    let busy = created(&app, "acme", "Busy", Some(Permissions::all_of(false)), false).await;
    let other = created(&app, "acme", "Other", Some(Permissions::all_of(false)), false).await;
    for _ in 0..2 {
        assert_eq!(status(&app, &busy).await, 200);
    }
    let limited = app.anonymous().bearing(&busy).query(VIEWER, json!({})).await;
    assert_eq!((limited.status, limited.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("10")));
    assert_eq!(limited.code(), Some("RATE_LIMITED"));
    assert_eq!(status(&app, &other).await, 200);
    app.clock.advance(Duration::from_secs(10));
    assert_eq!(status(&app, &busy).await, 200);
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics.contains("keymark_service_token_calls_limited_total 1"), "{metrics}");
    assert!(metrics.contains("keymark_service_tokens 2"), "{metrics}");
}

async fn socket_closes_when_its_token_ends(app: App) {
    let admin = administrator(&app).await;
    let other = app.instance(2).await;
    let address = other.listen().await;
    let open = async |token: &str| {
        let mut socket = Socket::open(address, &[], json!({ "authorization": format!("Bearer {token}") })).await;
        socket.acknowledged().await.expect("acknowledged");
        let payload = json!({ "query": "subscription { auditEntryAdded { number } }" });
        socket.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        socket
    };
    let closed = async |mut socket: Socket| loop {
        if let Event::Closed(code) = socket.event().await {
            return code;
        }
    };
    let (id, token) = create(&admin, "Revoked", &["view"]).await;
    let socket = open(&token).await;
    admin.query(REVOKE, json!({ "id": id })).await.data("revokeServiceToken.revokedTokenId");
    assert_eq!(closed(socket).await, 4403);

    let (id, token) = create(&admin, "Replaced", &["view"]).await;
    let socket = open(&token).await;
    admin.query(ROTATE, json!({ "id": id, "overlap": 0 })).await.data("rotateServiceToken.token");
    assert_eq!(closed(socket).await, 4403);
}

#[tokio::test]
async fn socket_closes_when_the_overlap_of_its_secret_is_over_or_its_token_expires() {
    let app = App::embedded().await;
    let admin = administrator(&app).await;
    let (id, token) = create(&admin, "Backend", &["view"]).await;
    let payload = json!({ "authorization": format!("Bearer {token}") });
    let mut socket = Socket::open(app.listen().await, &[], payload).await;
    socket.acknowledged().await.expect("acknowledged");
    let life = Duration::from_secs(60);
    for of_overlap in [true, false] {
        if of_overlap {
            let rotated = admin.query(ROTATE, json!({ "id": id, "overlap": 60 })).await;
            rotated.data("rotateServiceToken.token");
        } else {
            let end = START.plus(2 * life).to_string();
            let short = admin.query(CREATE, json!({ "name": "Short", "codes": [], "end": end })).await;
            let token = text(&short, "createServiceToken.token");
            let payload = json!({ "authorization": format!("Bearer {token}") });
            socket = Socket::open(app.listen().await, &[], payload).await;
            socket.acknowledged().await.expect("acknowledged");
        }
        app.clock.advance(life);
        tokio::time::pause();
        tokio::time::advance(life + Duration::from_millis(10)).await;
        tokio::time::resume();
        assert_eq!(socket.closed().await.0, 4403);
    }
}

async fn token_of_the_platform_acts_in_every_tenant(app: App) {
    let admin = administrator(&app).await;
    app.operator_of("bolt", &ALL).await;
    let platform = created(&app, "acme", "Platform", Some(Permissions::all_of(true)), true).await;
    let platform = || app.anonymous().bearing(&platform);
    let create = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
    for (tenant, name) in [(None, "At home"), (Some("acme"), "Also at home"), (Some("bolt"), "Away")] {
        let caller = tenant.into_iter().fold(platform(), |caller, tenant| caller.with("x-keymark-tenant", tenant));
        caller.query(create, json!({ "name": name })).await.data("createSystem.system.id");
        let entry = app.log_of(tenant.unwrap_or("acme")).await.pop().expect("an entry")["event"].clone();
        assert_eq!(entry["systemName"], name);
        assert_eq!(entry["actor"]["name"], "Platform");
        assert_eq!(entry["actor"]["isPlatform"], if name == "Away" { json!(true) } else { Json::Null });
    }
    let unknown = platform().with("x-keymark-tenant", "nowhere").query(VIEWER, json!({})).await;
    assert_eq!((unknown.status, unknown.code()), (StatusCode::NOT_FOUND, Some("NOT_FOUND")));
    let foreign = admin.clone().with("x-keymark-tenant", "bolt").query(VIEWER, json!({})).await;
    assert_eq!((foreign.status, foreign.code()), (StatusCode::FORBIDDEN, Some("FORBIDDEN")));
    // A token that is created away from home belongs to the other tenant.
    let away = platform().with("x-keymark-tenant", "bolt");
    let token = away.query(CREATE, json!({ "name": "Of Bolt", "codes": [code("view")] })).await;
    assert_eq!(*token.data("createServiceToken.serviceToken.createdBy.name"), "Platform");
    let of_bolt = app.anonymous().bearing(&text(&token, "createServiceToken.token"));
    assert_eq!(of_bolt.query(VIEWER, json!({})).await.data("viewer.tenantId"), "bolt");
}

async fn tokens_are_listed_newest_first_with_their_last_use(app: App) {
    let admin = administrator(&app).await;
    let mut names = vec!["Administrator".to_owned()];
    let first_use = START.plus(Duration::from_secs(1)).to_string();
    for number in 0..4 {
        app.clock.advance(Duration::from_secs(1));
        names.push(format!("Token {number}"));
        create(&admin, &names[number + 1], &[]).await;
    }
    let list = "query ($first: Int, $after: String) { serviceTokens(first: $first, after: $after) {
        totalCount pageInfo { hasNextPage endCursor } edges { cursor } nodes { id name lastUsedAt } } }";
    let (mut listed, mut after) = (Vec::new(), Json::Null);
    loop {
        let page = admin.query(list, json!({ "first": 2, "after": after })).await;
        let page = page.data("serviceTokens").clone();
        assert_eq!(page["totalCount"], 5);
        listed.extend(page["nodes"].as_array().expect("nodes").clone());
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    names.reverse();
    assert_eq!(listed.iter().map(|token| token["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    let administrator = listed.last().expect("a token");
    assert_eq!((&listed[0]["lastUsedAt"], &administrator["lastUsedAt"]), (&Json::Null, &json!(first_use)));
    let node = "query ($id: ID!) { node(id: $id) { id ... on ServiceToken { name lastUsedAt } } }";
    assert_eq!(admin.query(node, json!({ "id": administrator["id"] })).await.data("node"), administrator);
    app.service.write_activity().await;
    let other = app.instance(2).await;
    let reader = created(&app, "acme", "Reader", Some(Permissions::all_of(false)), false).await;
    let there = other.anonymous().bearing(&reader);
    assert_eq!(there.query(node, json!({ "id": administrator["id"] })).await.data("node.lastUsedAt"), &first_use);
    assert_eq!(admin.query(list, json!({ "after": "bmV2ZXI" })).await.code(), Some("BAD_USER_INPUT"));
    let viewer = app.operator(&["view"]).await;
    let refused = viewer.query(node, json!({ "id": administrator["id"] })).await;
    assert_eq!(refused.error()["extensions"]["permission"], "operator_management:view");
}

async fn ids_of_another_tenant_are_unknown(app: App) {
    let admin = administrator(&app).await;
    app.operator_of("bolt", &ALL).await;
    let other = created(&app, "bolt", "Other", Some(Permissions::all_of(false)), false).await;
    let other = app.anonymous().bearing(&other);
    let (id, token) = create(&admin, "Backend", &["view"]).await;
    let never = "tok_01hf7yat00000000000000000x".to_owned();
    let verifier = "mutation ($id: ID!) { revokeVerifierToken(id: $id) { revokedTokenId } }";
    for document in [ROTATE, REVOKE, verifier, "query ($id: ID!) { node(id: $id) { id } }"] {
        let ask = async |id: &str| other.query(document, json!({ "id": id, "overlap": 0 })).await.text;
        assert_eq!(ask(&id).await, ask(&never).await, "{document}");
    }
    assert_eq!(admin.query(verifier, json!({ "id": id })).await.code(), Some("NOT_FOUND"), "of the other kind");
    let listed = other.query("{ serviceTokens { totalCount nodes { name } } }", json!({})).await;
    assert_eq!(*listed.data("serviceTokens"), json!({ "totalCount": 1, "nodes": [{ "name": "Other" }] }));
    assert_eq!(status(&app, &token).await, 200);
}

#[tokio::test]
async fn token_outlives_a_change_of_the_root_secret() {
    const OLD: &str = "the root secret before, which is long enough as well";
    let app = App::embedded_with(Setup { secret: OLD, ..Setup::default() }).await;
    app.operator(&ALL).await;
    let token = created(&app, "acme", "Backend", Some(Permissions::all_of(false)), false).await;
    let verifier = created(&app, "acme", "Gateway", None, false).await;
    let changed = app.instance_with(2, Setup { previous_secrets: &[OLD], ..Setup::default() }).await;
    assert_eq!(status(&changed, &token).await, 200);
    let shown = [("x-keymark-verifier-token", verifier.as_str())];
    let ask = async |app: &App| app.verifier().forward_auth(&shown).await.status.as_u16();
    assert_eq!(ask(&changed).await, 401, "admitted, without a key");
    let forgotten = app.instance_with(3, Setup::default()).await;
    assert_eq!((status(&forgotten, &token).await, ask(&forgotten).await), (401, 403));
}

async fn tokens_are_managed_on_the_command_line(app: App) {
    app.operator(&ALL).await;
    let cli = async |arguments: &[&str]| {
        let output = app.cli(&[arguments, &["--tenant", "acme", "--as", "ada"]].concat()).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        (output.status.code().expect("a code"), text)
    };
    let token_in = |said: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix("Token: ")).expect("a token");
        line.strip_suffix(" (shown once)").expect("shown once").to_owned()
    };
    let (_, said) = cli(&["token", "create", "Backend", "--permissions", "view,create", "--expires-in", "12h"]).await;
    let first = token_in(&said);
    assert!(said.starts_with("Backend\tacme\ttok_") && said.contains("api_key_management:create"), "{said}");
    assert_eq!(status(&app, &first).await, 200);
    let event = app.log_of("acme").await.pop().expect("an entry")["event"].clone();
    assert_eq!(
        (&event["action"], &event["actor"]["name"]),
        (&json!("SERVICE_TOKEN_CREATED"), &json!("command line (ada)"))
    );
    let (_, said) = cli(&["token", "rotate", "backend", "--overlap", "0", "--expires-in", "never"]).await;
    let second = token_in(&said);
    assert!(said.contains("never expires"), "{said}");
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (401, 200));
    let (_, said) = cli(&["token", "list"]).await;
    assert!(said.contains("Backend") && !said.contains(&second[4..30]), "{said}");
    let (_, said) = cli(&["token", "create", "Everything", "--platform", "--permissions", "all"]).await;
    assert!(said.contains("\tplatform\t") && said.contains("tenant_management:edit"), "{said}");

    let (_, said) = cli(&["verifier-token", "create", "Gateway"]).await;
    assert!(token_in(&said).starts_with("kmv_"));
    assert!(cli(&["verifier-token", "list"]).await.1.contains("never expires\tnever used"));
    for (kind, name) in [("token", "Backend"), ("verifier-token", "GATEWAY")] {
        assert_eq!(cli(&[kind, "revoke", name]).await.0, 0);
        let (code, said) = cli(&[kind, "revoke", name]).await;
        assert_eq!(code, 1);
        assert!(said.contains(&format!("tenant acme has no token named {name}")), "{said}");
    }
    assert_eq!(status(&app, &second).await, 401);
    for (bad, expected) in [
        (&["--permissions", "view", "--expires-in", "90"][..], "expected days or hours"),
        (&["--permissions", "view", "--expires-in", "0d"], "expected days or hours"),
        (&["--permissions", "most"], "`most` is not view"),
        (&["--permissions", "tenant_management:view"], "add --platform, or leave the code out"),
        (&[], "--permissions <PERMISSIONS>"),
    ] {
        let (code, said) = cli(&[&["token", "create", "Bad"], bad].concat()).await;
        assert!(code != 0 && said.contains(expected) && !said.contains("Token: "), "{said}");
    }

    assert!(app.cli(&["tenant", "create", "default"]).await.status.success());
    cli(&["token", "create", "Backend", "--permissions", "view"]).await;
    cli(&["verifier-token", "create", "Gateway"]).await;
    for kind in ["token", "verifier-token"] {
        let run = async |arguments: &[&str]| {
            let output = app.cli(&[&[kind][..], arguments].concat()).await;
            String::from_utf8(output.stdout).expect("text")
        };
        let mut create = vec!["create", "Elsewhere", "--tenant", "default"];
        create.extend((kind == "token").then_some(["--permissions", "view"]).into_iter().flatten());
        assert!(run(&create).await.contains("Token: "));
        let all = run(&["list"]).await;
        assert!(all.contains("Elsewhere\tdefault\t") && all.contains("\tacme\t"), "{all}");
        assert!(all.contains("\tcreated by command line (ada)\n"), "{all}");
        let some = run(&["list", "--tenant", "acme"]).await;
        assert!(some.contains("\tacme\t") && !some.contains("Elsewhere"), "{some}");
    }
}
