//! Subscriptions: every change, in order, once; and when they end.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;
use keymark::admin::Command;
use keymark::domain::audit::AuditEntry;
use keymark::domain::cursors::{AuditPosition, encode_audit};
use keymark::domain::permissions::Permission;
use keymark::domain::refusal::Refusal;
use keymark::http::front::Front;
use keymark::service::Settings;
use keymark::service::callers::{Caller, CallerRef, Credentials, RequestedTenant};
use keymark::service::error::Error;
use keymark::service::feed::Subject;
use serde_json::{Value as Json, json};
use tokio::task::unconstrained;
use tokio::time::Instant;

use crate::support::actors::{ALL, App, Operator, PASSWORD, Setup, permissions};
use crate::support::faulty::Switch;
use crate::support::sockets::{Event, Socket, Subscription};
use crate::support::{on_both_stores, within};

on_both_stores![
    each_change_comes_in_order_with_the_system_as_it_was_right_after,
    a_resumed_subscription_loses_nothing_and_repeats_nothing,
    without_a_cursor_a_subscription_begins_now,
    cursor_of_an_entry_that_a_restored_store_lacks_is_refused,
    subscription_to_a_system_that_does_not_exist_is_not_found,
    audit_cursor_is_where_a_subscription_receives_all_that_follows,
    the_viewer_is_told_at_once_and_at_each_change_of_codes,
    sockets_close_when_their_session_is_over_wherever_it_ended,
    a_code_that_is_lost_while_the_log_is_caught_up_with_ends_it_at_the_next_entry,
    a_code_that_is_lost_among_entries_that_do_not_match_ends_it,
    a_change_that_ends_its_own_session_is_answered_before_the_socket_closes,
];

const CHANGES: &str = "subscription ($id: ID, $after: String) { systemChanged(systemId: $id, after: $after) {
    cursor kind systemId occurredAt system { id name keyState keyMark revision updatedAt }
    entry { number action systemName previousName keyMark actor { name } } } }";

async fn kinds(subscription: &mut Subscription, count: usize) -> Vec<Json> {
    let mut kinds = Vec::new();
    for _ in 0..count {
        kinds.push(subscription.next().await["kind"].clone());
    }
    kinds
}

async fn each_change_comes_in_order_with_the_system_as_it_was_right_after(app: App) {
    let operator = app.operator(&ALL).await;
    let after = operator.newest_cursor().await;
    let mut live = operator.subscribe(CHANGES, json!({ "after": after })).await;

    let system = operator.create_system("Billing").await;
    let created = live.next().await;
    assert_eq!((&created["kind"], &created["system"]["revision"]), (&json!("CREATED"), &json!(1)));
    let key = operator.generate_key(&system.id).await;
    operator.revoke_key(&system.id).await;
    operator.rename_system(&system.id, "Billing EU").await;
    operator.delete_system(&system.id).await;

    let generated = live.next().await;
    assert_eq!(generated["kind"], "KEY_GENERATED");
    assert_eq!(generated["system"]["keyMark"], json!(key.system.key_mark), "though it is revoked by now");
    assert_eq!((&generated["system"]["keyState"], &generated["system"]["revision"]), (&json!("ACTIVE"), &json!(2)));
    let revoked = live.next().await;
    assert_eq!((&revoked["kind"], &revoked["system"]["keyMark"]), (&json!("KEY_REVOKED"), &json!(null)));
    assert_eq!(revoked["entry"]["keyMark"], json!(key.system.key_mark));
    let renamed = live.next().await;
    assert_eq!((&renamed["kind"], &renamed["system"]["name"]), (&json!("RENAMED"), &json!("Billing EU")));
    assert_eq!(renamed["entry"]["previousName"], "Billing");
    let deleted = live.next().await;
    assert_eq!((&deleted["kind"], &deleted["system"]), (&json!("DELETED"), &json!(null)));
    assert_eq!((&deleted["systemId"], &deleted["entry"]["systemName"]), (&json!(system.id), &json!("Billing EU")));
    let numbers: Vec<_> = [created, generated, revoked, renamed, deleted]
        .iter()
        .map(|c| c["entry"]["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

async fn a_resumed_subscription_loses_nothing_and_repeats_nothing(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let beside = operator.at(&other);
    let addresses = [app.listen().await, other.listen().await];
    let mut after = operator.newest_cursor().await;

    let changes = async {
        for i in 0..30 {
            let author: &Operator<'_> = if i % 2 == 0 { &operator } else { &beside };
            let system = author.create_system(&format!("System {i}")).await;
            author.generate_key(&system.id).await;
        }
    };
    let follow = async {
        let mut seen = Vec::new();
        for round in 0.. {
            // Each time at the other instance, from the last cursor that was seen.
            let mut live = operator.subscribe_at(addresses[round % 2], CHANGES, json!({ "after": after })).await;
            for _ in 0..=round * 3 {
                let change = live.next().await;
                after = change["cursor"].as_str().unwrap().to_owned();
                seen.push(format!("{} {}", change["system"]["name"], change["kind"]));
                if seen.len() == 60 {
                    return seen;
                }
            }
        }
        unreachable!("there are 60 changes")
    };
    let (seen, ()) = tokio::join!(follow, changes);
    let expected: Vec<_> = (0..30)
        .flat_map(|i| [format!("\"System {i}\" \"CREATED\""), format!("\"System {i}\" \"KEY_GENERATED\"")])
        .collect();
    assert_eq!(seen, expected);
}

/// A cursor as release 0.1 encoded it, without the hash of its entry.
fn cursor_of_release_0_1(app: &App, number: u64) -> String {
    let position = number.to_string();
    let tag = app.service.keyring().current().cursors.mac(&[b"audit/acme\0", position.as_bytes()]);
    URL_SAFE_NO_PAD.encode([&tag[..16], position.as_bytes()].concat())
}

async fn cursor_of_an_entry_that_a_restored_store_lacks_is_refused(app: App) {
    let operator = app.operator(&ALL).await;
    operator.create_system("Billing").await;
    let (kept, length) = (operator.newest_cursor().await, app.log_of("acme").await.len() as u64);
    let restored = app.restored(2).await;
    let lost_id = operator.create_system("Lost").await.id;
    let lost = operator.newest_cursor().await;
    let (kept_0_1, lost_0_1) = (cursor_of_release_0_1(&app, length), cursor_of_release_0_1(&app, length + 1));
    let after_all = cursor_of_release_0_1(&app, length + 100);

    let operator = operator.at(&restored);
    let refuses = async |cursor: &str| {
        for document in [
            "subscription ($after: String) { systemChanged(after: $after) { kind } }",
            "subscription ($after: String) { keyStateChanged(after: $after) { kind } }",
            "subscription ($after: String) { auditLogAppended(after: $after) { number } }",
        ] {
            let mut events = operator.subscribe(document, json!({ "after": cursor })).await;
            assert_eq!(events.event().await, Event::Error("CURSOR_INVALID".to_owned()));
        }
        for argument in ["after", "before"] {
            let document = format!("query ($cursor: String) {{ auditLog({argument}: $cursor) {{ totalCount }} }}");
            assert_eq!(operator.query(&document, json!({ "cursor": cursor })).await.code(), Some("CURSOR_INVALID"));
        }
    };
    for cursor in [&lost, &lost_0_1, &after_all] {
        refuses(cursor).await;
    }
    let mut of_lost = operator.subscribe(CHANGES, json!({ "after": lost, "id": lost_id })).await;
    assert_eq!(of_lost.event().await, Event::Error("CURSOR_INVALID".to_owned()), "rather than NOT_FOUND");
    let names = ["One", "Two", "Three", "Four", "Five"];
    for name in names {
        operator.create_system(name).await;
    }
    // Now there is another entry with its number.
    refuses(&lost).await;
    refuses(&after_all).await;
    for cursor in [&kept, &kept_0_1] {
        let mut changes = operator.subscribe(CHANGES, json!({ "after": cursor })).await;
        for name in names {
            assert_eq!(changes.next().await["system"]["name"], name);
        }
    }
    let mut of_0_1 = operator.subscribe(CHANGES, json!({ "after": lost_0_1 })).await;
    assert_eq!(of_0_1.next().await["system"]["name"], "Two", "it does not show which log it is of");
    let page = "query ($after: String) { auditLog(after: $after) { nodes { number } } }";
    let page = operator.query(page, json!({ "after": kept })).await;
    assert_eq!(page.data("auditLog.nodes.0.number"), length - 1);
}

async fn without_a_cursor_a_subscription_begins_now(app: App) {
    let operator = app.operator(&ALL).await;
    operator.create_system("Before").await;
    let mut live = operator.subscribe(CHANGES, json!({})).await;
    let mut created = 0;
    let first = loop {
        let name = format!("System {created}");
        tokio::select! {
            biased;
            first = live.next() => break first,
            _ = operator.create_system(&name) => created += 1,
        }
    };
    let first = first["system"]["name"].as_str().unwrap().to_owned();
    let first: usize = first.strip_prefix("System ").expect("nothing from before").parse().unwrap();
    for next in first + 1..created {
        assert_eq!(live.next().await["system"]["name"], format!("System {next}"), "and from then on all");
    }
}

#[tokio::test]
async fn a_subscription_tells_what_was_asked_for_and_no_more() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let after = operator.newest_cursor().await;
    let (one, other) = (operator.create_system("One").await, operator.create_system("Other").await);
    for system in [&one, &other] {
        operator.generate_key(&system.id).await;
    }
    operator.rename_system(&one.id, "One more").await;
    operator.delete_system(&one.id).await;
    app.operator_of("elsewhere", &ALL).await.create_system("One").await;

    let mut of_one = operator.subscribe(CHANGES, json!({ "after": after, "id": one.id })).await;
    assert_eq!(kinds(&mut of_one, 4).await, ["CREATED", "KEY_GENERATED", "RENAMED", "DELETED"]);
    let keys =
        "subscription ($id: ID, $after: String) { keyStateChanged(systemId: $id, after: $after) { kind systemId } }";
    let mut of_keys = operator.subscribe(keys, json!({ "after": after })).await;
    assert_eq!(kinds(&mut of_keys, 3).await, ["KEY_GENERATED", "KEY_GENERATED", "DELETED"]);

    let log = "subscription ($filter: AuditFilter, $after: String) {
        auditLogAppended(filter: $filter, after: $after) { action systemName outcome } }";
    let filter = json!({ "systemId": other.id, "actions": ["KEY_GENERATED", "KEY_REVOKED"] });
    let mut of_log = operator.subscribe(log, json!({ "after": after, "filter": filter })).await;
    assert_eq!(of_log.next().await, json!({ "action": "KEY_GENERATED", "systemName": "Other", "outcome": "DONE" }));
    operator.generate_key(&operator.create_system("Third").await.id).await;
    operator.revoke_key(&other.id).await;
    assert_eq!(of_log.next().await["action"], "KEY_REVOKED");

    let mut of_other = operator.subscribe(CHANGES, json!({ "after": after, "id": other.id })).await;
    assert_eq!(kinds(&mut of_other, 3).await, ["CREATED", "KEY_GENERATED", "KEY_REVOKED"]);
}

async fn subscription_to_a_system_that_does_not_exist_is_not_found(app: App) {
    let operator = app.operator(&ALL).await;
    let foreign = app.operator_of("theirs", &ALL).await.create_system("Billing").await.id;
    let (gone, lost, kept) = (
        operator.create_system("Gone").await.id,
        operator.create_system("Lost").await.id,
        operator.create_system("Kept").await.id,
    );
    operator.delete_system(&gone).await;
    let after = operator.audit_cursor().await;
    let brief = operator.create_system("Brief").await.id;
    for id in [&brief, &lost] {
        operator.delete_system(id).await;
    }
    let end = operator.audit_cursor().await;
    let key_changes =
        "subscription ($id: ID, $after: String) { keyStateChanged(systemId: $id, after: $after) { kind } }";
    let use_changes = "subscription ($id: ID!) { usageChanged(systemId: $id) { id } }";

    let never = "sys_00000000000000000000000000";
    for id in ["nonsense", never, &foreign, &gone, &lost, &brief] {
        for (document, after) in [
            (CHANGES, None),
            (CHANGES, Some(&end)),
            (key_changes, None),
            (key_changes, Some(&end)),
            (use_changes, None),
        ] {
            let mut refused = operator.subscribe(document, json!({ "id": id, "after": after })).await;
            assert_eq!(refused.event().await, Event::Error("NOT_FOUND".to_owned()), "{document} {id} {after:?}");
        }
    }
    for id in ["nonsense", never, &foreign, &gone] {
        for document in [CHANGES, key_changes] {
            let mut refused = operator.subscribe(document, json!({ "id": id, "after": after })).await;
            assert_eq!(refused.event().await, Event::Error("NOT_FOUND".to_owned()), "{document} {id}");
        }
    }
    for (id, expected) in [(&lost, vec!["DELETED"]), (&brief, vec!["CREATED", "DELETED"])] {
        let mut deleted = operator.subscribe(CHANGES, json!({ "id": id, "after": after })).await;
        assert_eq!(kinds(&mut deleted, expected.len()).await, expected, "it was deleted after the cursor");
    }
    let mut live = operator.subscribe(CHANGES, json!({ "id": kept, "after": end })).await;
    operator.delete_system(&kept).await;
    assert_eq!(kinds(&mut live, 1).await, ["DELETED"]);
}

async fn audit_cursor_is_where_a_subscription_receives_all_that_follows(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&ALL).await;
    let beside = operator.at(&other);
    operator.create_system("Before").await;
    let after = beside.audit_cursor().await;
    assert_eq!(after, operator.newest_cursor().await, "it includes what another instance has answered");
    operator.create_system("First").await;
    let mut live = beside.subscribe(CHANGES, json!({ "after": after })).await;
    assert_eq!(live.next().await["system"]["name"], "First");
    operator.create_system("Second").await;
    assert_eq!(live.next().await["system"]["name"], "Second");

    let (acme, empty) = ("acme".parse().unwrap(), app.service.audit_head(&"empty".parse().unwrap()).await.unwrap());
    let beginning = encode_audit(app.service.keyring(), &acme, &empty);
    let numbers = "subscription ($after: String) { auditLogAppended(after: $after) { number } }";
    let mut all = operator.subscribe(numbers, json!({ "after": beginning })).await;
    assert_eq!(all.next().await["number"], 1, "that of an empty log is before its first entry");
}

#[tokio::test]
async fn a_subscriber_who_falls_behind_is_told_everything_all_the_same() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let after = operator.newest_cursor().await;
    let mut slow = operator.subscribe(CHANGES, json!({ "after": after })).await;
    operator.create_system("System 0").await;
    assert_eq!(slow.next().await["system"]["name"], "System 0");
    // More changes than the feed keeps for subscribers, and more bytes than a connection holds, while it does not read.
    let changes = 3_000;
    let system = operator.create_system("Renamed all the time").await;
    for i in 0..changes {
        operator.rename_system(&system.id, &format!("Renamed {i}")).await;
    }
    assert_eq!(slow.next().await["kind"], "CREATED");
    for i in 0..changes {
        assert_eq!(slow.next().await["system"]["name"], format!("Renamed {i}"));
    }
}

async fn the_viewer_is_told_at_once_and_at_each_change_of_codes(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&["view"]).await;
    let document = "subscription { viewerChanged { username permissions tenantId } }";
    let mut live = operator.at(&other).subscribe(document, json!({})).await;
    let permissions = |viewer: &Json| viewer["permissions"].clone();
    assert_eq!(permissions(&live.next().await), json!(["api_key_management:view"]));
    operator.may(&["view", "delete"]).await;
    assert_eq!(permissions(&live.next().await), json!(["api_key_management:view", "api_key_management:delete"]));
    app.sign_in(&operator.username, PASSWORD).await;
    operator.may(&["view", "delete"]).await;
    operator.may(&[]).await;
    assert_eq!(permissions(&live.next().await), json!([]), "and at nothing else");
}

async fn sockets_close_when_their_session_is_over_wherever_it_ended(app: App) {
    let other = app.instance(2).await;
    let ways: [(&str, Way); 5] = [
        ("sign-out", |_, operator| Box::pin(async move { drop(operator.sign_out().await) })),
        ("own password", |_, operator| {
            Box::pin(async move { drop(operator.change_password(PASSWORD, "another password").await) })
        }),
        ("removal", |_, operator| Box::pin(operator.be_removed())),
        ("restored store", |app, _| Box::pin(async move { drop(app.command(Command::MarkRestored).await.unwrap()) })),
        ("set password", |app, operator| {
            Box::pin(async move {
                let username = operator.username.parse().unwrap();
                let password = Some("another password".to_owned());
                app.command(Command::SetPassword { username, password }).await.unwrap();
            })
        }),
    ];
    let address = other.listen().await;
    for (what, end) in ways {
        let operator = app.operator(&["view"]).await;
        let mut live = operator.subscribe_at(address, "subscription { viewerChanged { username } }", json!({})).await;
        live.next().await;
        end(&app, &operator).await;
        assert_eq!(live.end().await.last(), Some(&Event::Closed(4403)), "{what}");
        assert!(!operator.at(&other).is_signed_in().await, "{what}");
    }
}

type Way = for<'a> fn(&'a App, &'a Operator<'a>) -> futures::future::BoxFuture<'a, ()>;

#[tokio::test]
async fn a_socket_closes_when_its_session_has_lasted_its_time() {
    let session_lifetime = Duration::from_secs(60);
    let settings = Settings { session_lifetime, ..Setup::default().settings };
    let app = App::embedded_with(Setup { settings, ..Setup::default() }).await;
    let operator = app.operator(&["view"]).await;
    let mut live = operator.subscribe("subscription { viewerChanged { username } }", json!({})).await;
    live.next().await;
    // Moves the runtime's clock, by which the server ends the session. A little further, since timers are rounded up to
    // whole milliseconds.
    tokio::time::pause();
    tokio::time::advance(session_lifetime + Duration::from_millis(10)).await;
    tokio::time::resume();
    assert_eq!(live.end().await.last(), Some(&Event::Closed(4403)));
}

#[tokio::test]
async fn a_socket_takes_the_token_or_the_cookie_and_nothing_else() {
    let app = App::embedded().await;
    let operator = app.operator(&["view"]).await;
    let address = app.listen().await;
    let (own, cookie) = (format!("http://{address}"), format!("keymark-session={}", operator.token));
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let none = || json!({});
    for (headers, payload, admitted) in [
        (vec![], bearer.clone(), true),
        (vec![("origin", own.as_str())], bearer.clone(), true),
        (vec![("origin", own.as_str()), ("cookie", &cookie)], none(), true),
        (vec![("cookie", &cookie)], none(), true),
        (vec![], none(), false),
        (vec![], json!({ "authorization": operator.token }), false),
        (vec![], json!({ "authorization": "Bearer x.y.z" }), false),
        (vec![], json!({ "authorization": 7 }), false),
        (vec![("origin", own.as_str()), ("cookie", "keymark-session=x.y.z")], none(), false),
        (vec![("origin", own.as_str()), ("cookie", &cookie)], json!({ "authorization": "Bearer x" }), false),
    ] {
        let mut socket = Socket::open(address, &headers, payload.clone()).await;
        let acknowledged = socket.acknowledged().await;
        assert_eq!(acknowledged, if admitted { Ok(()) } else { Err(4403) }, "{headers:?} {payload}");
    }
    for origin in ["http://evil.test", "null", "https://127.0.0.1", "http://127.0.0.1:1"] {
        let headers = [("origin", origin), ("cookie", cookie.as_str())];
        assert_eq!(Socket::upgrade(address, &headers).await.err(), Some(http::StatusCode::FORBIDDEN), "{origin}");
    }
}

#[tokio::test]
async fn a_socket_without_usable_credentials_closes_with_what_is_wrong_and_what_to_send() {
    let front = Front { allowed_origins: vec!["https://app.example.com".to_owned()], ..Front::default() };
    let app = App::embedded_with(Setup { front, ..Setup::default() }).await;
    let operator = app.operator(&["view"]).await;
    let (address, token) = (app.listen().await, operator.token.as_str());
    let cookie = format!("keymark-session={token}");
    let ended = "keymark-session=x.y.z";
    let allowed = "https://app.example.com";
    let mut reasons = Vec::new();
    for (headers, payload) in [
        (vec![], Json::Null),
        (vec![], json!({})),
        (vec![], json!({ "token": token })),
        (vec![], json!({ "accessToken": token })),
        (vec![], json!({ "access_token": token })),
        (vec![], json!({ "authToken": token })),
        (vec![], json!({ "headers": { "Authorization": format!("Bearer {token}") } })),
        (vec![], json!({ token: token })),
        (vec![], json!({ "authorization": token })),
        (vec![], json!({ "authorization": format!("Bearer{token}") })),
        (vec![], json!({ "authorization": "Bearer " })),
        (vec![], json!({ "Authorization": format!("Token {token}") })),
        (vec![], json!({ "authorization": [format!("Bearer {token}")] })),
        (vec![], json!({ "authorization": null })),
        (vec![], json!({ "authorization": "Bearer x.y.z" })),
        (vec![("cookie", ended)], json!({})),
        (vec![("cookie", ended)], json!({ "token": token })),
        (vec![("cookie", cookie.as_str()), ("origin", allowed)], json!({})),
    ] {
        let mut socket = Socket::open(address, &headers, payload.clone()).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 4403, "{payload}");
        assert!(reason.len() <= 123 && !reason.contains(token), "{reason}");
        reasons.push(reason);
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    connection_init has no credentials. Send the payload {"authorization": "Bearer <token>"}
    connection_init has no credentials. Send the payload {"authorization": "Bearer <token>"}
    The payload has "token". Send {"authorization": "Bearer <token>"} instead
    The payload has "accessToken". Send {"authorization": "Bearer <token>"} instead
    The payload has "access_token". Send {"authorization": "Bearer <token>"} instead
    The payload has "authToken". Send {"authorization": "Bearer <token>"} instead
    The payload has "headers". Send {"authorization": "Bearer <token>"} without it
    The payload has no "authorization". Send {"authorization": "Bearer <token>"}
    "authorization" has no "Bearer " and token. Send {"authorization": "Bearer <token>"}
    "authorization" has no "Bearer " and token. Send {"authorization": "Bearer <token>"}
    "authorization" has no "Bearer " and token. Send {"authorization": "Bearer <token>"}
    "authorization" has no "Bearer " and token. Send {"authorization": "Bearer <token>"}
    "authorization" is not a string. Send {"authorization": "Bearer <token>"}
    "authorization" is not a string. Send {"authorization": "Bearer <token>"}
    The token is invalid, or its session has ended. Sign in again.
    The token is invalid, or its session has ended. Sign in again.
    The payload has "token". Send {"authorization": "Bearer <token>"} instead
    This origin's cookie is not used. Send the payload {"authorization": "Bearer <token>"}
    "#);
}

/// An app, and another instance over the same store, to which things happen while the first one looks away.
async fn distracted(switch: &Switch) -> (App, Arc<App>) {
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::without_leases() }).await;
    let other = app.instance_with(2, Setup::without_leases()).await;
    (app, Arc::new(other))
}

#[tokio::test]
async fn a_session_that_ends_while_its_socket_is_admitted_closes_it() {
    let switch = Switch::default();
    let (app, other) = distracted(&switch).await;
    let operator = app.operator(&["view"]).await;
    let (token, address) = (operator.token.clone(), app.listen().await);
    switch.after("find_operator", async move {
        let answer = other.anonymous().bearing(&token).query("mutation { signOut { signedOut } }", json!({})).await;
        assert_eq!(answer.data("signOut.signedOut"), true);
    });
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(address, &[], bearer).await;
    let code = loop {
        match socket.receive().await {
            Ok(message) => assert_eq!(message["type"], "connection_ack"),
            Err(code) => break code,
        }
    };
    assert_eq!(code, 4403);
}

#[tokio::test]
async fn a_store_that_fails_ends_no_subscription() {
    let switch = Switch::default();
    let (app, other) = distracted(&switch).await;
    let operator = app.operator(&["view"]).await;
    let after = operator.newest_cursor().await;
    let mut changes = operator.subscribe(CHANGES, json!({ "after": after })).await;
    let author = other.operator(&ALL).await;
    author.create_system("Billing").await;
    assert_eq!(changes.next().await["system"]["name"], "Billing");
    switch.fail();
    let asked = switch.calls(&["find_session"]);
    author.create_system("Payroll").await;
    switch.wait_for_calls("find_session", asked + 1).await;
    switch.work();
    assert_eq!(changes.next().await["system"]["name"], "Payroll");
}

#[tokio::test]
async fn a_code_that_is_lost_while_a_subscription_begins_ends_it() {
    let switch = Switch::default();
    let (app, other) = distracted(&switch).await;
    let operator = app.operator(&["view"]).await;
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(app.listen().await, &[], bearer).await;
    socket.acknowledged().await.expect("acknowledged");
    let username = operator.username.parse().unwrap();
    switch.after("find_operator", async move {
        let command = Command::SetPermissions { username, permissions: permissions(&[]), all: false };
        other.command(command).await.expect("changed");
    });
    let query = "subscription { systemChanged { cursor } }";
    socket.send(json!({ "type": "subscribe", "id": "1", "payload": { "query": query } })).await;
    assert_eq!(socket.event().await, Event::Error("FORBIDDEN".to_owned()));
}

async fn a_code_that_is_lost_while_the_log_is_caught_up_with_ends_it_at_the_next_entry(app: App) {
    let operator = app.operator(&["view", "create", "edit"]).await;
    let system = operator.create_system("Renamed all the time").await;
    // More than one part of the log, of which the first is read at once.
    for i in 0..510 {
        operator.rename_system(&system.id, &format!("Renamed {i}")).await;
    }
    let caller = caller_of(&app, &operator).await;
    let mut told = Box::pin(app.service.caller_changes(&caller));
    let mut entries = Box::pin(app.service.entries(
        &caller,
        [Permission::View].into_iter().collect(),
        Subject::Tenant,
        Some(AuditPosition::Number(0)),
        |_| true,
    ));
    for number in 1..=5 {
        assert_eq!(within(entries.next()).await.unwrap().expect("an entry").number, number);
    }
    // The second change of codes arrives through the feed, which delivers it to all subscribers at the same time.
    within(told.next()).await.unwrap().expect("the caller as it is");
    operator.may(&["view", "create"]).await;
    within(told.next()).await.unwrap().expect("the caller with fewer codes");
    assert_eq!(within(entries.next()).await.unwrap().expect("an entry").number, 6, "the code that it needs is left");
    operator.may(&["create"]).await;
    within(told.next()).await.unwrap().expect("the caller without the code");
    let end = within(entries.next()).await.expect("an item");
    assert!(matches!(end, Err(Error::Refused(Refusal::Forbidden(Permission::View)))), "{end:?}");
    assert!(within(entries.next()).await.is_none(), "and nothing comes after");
}

async fn a_code_that_is_lost_among_entries_that_do_not_match_ends_it(app: App) {
    let operator = app.operator(&["view", "create", "edit"]).await;
    let system = operator.create_system("Renamed all the time").await;
    // More than one part of the log. What the feed delivers meanwhile is dropped.
    for i in 0..40 {
        operator.rename_system(&system.id, &format!("Renamed {i}")).await;
    }
    let caller = caller_of(&app, &operator).await;
    let mut told = Box::pin(app.service.caller_changes(&caller));
    let view = [Permission::View].into_iter().collect();
    let after = Some(AuditPosition::Number(0));
    let first = |entry: &AuditEntry| entry.number == 1;
    let mut entries = Box::pin(app.service.entries(&caller, view, Subject::Tenant, after, first));
    assert_eq!(within(entries.next()).await.unwrap().expect("an entry").number, 1);
    within(told.next()).await.unwrap().expect("the caller as it is");
    operator.may(&["create"]).await;
    within(told.next()).await.unwrap().expect("the caller without the code");
    let end = within(entries.next()).await.expect("an item");
    assert!(matches!(end, Err(Error::Refused(Refusal::Forbidden(Permission::View)))), "{end:?}");
}

async fn a_change_that_ends_its_own_session_is_answered_before_the_socket_closes(app: App) {
    let address = app.listen().await;
    let operator = app.operator(&["view"]).await;
    let mut password = PASSWORD.to_owned();
    for round in 0..5 {
        let new = format!("another password {round}");
        let change = json!({
            "query": "mutation ($c: String!, $n: String!) {
                changePassword(currentPassword: $c, newPassword: $n) { token } }",
            "variables": { "c": password, "n": new },
        });
        let sign_out = json!({ "query": "mutation { signOut { signedOut } }" });
        for (payload, answer) in [(sign_out, "/signOut/signedOut"), (change, "/changePassword/token")] {
            let token = app.sign_in(&operator.username, &password).await.token;
            let bearer = json!({ "authorization": format!("Bearer {token}") });
            let mut socket = Socket::open(address, &[], bearer).await;
            socket.acknowledged().await.expect("acknowledged");
            let follow = json!({ "query": "subscription { viewerChanged { username } }" });
            socket.send(json!({ "type": "subscribe", "id": "followed", "payload": follow })).await;
            assert_eq!(socket.event().await.data()["viewerChanged"]["username"], operator.username.as_str());
            socket.send(json!({ "type": "subscribe", "id": "last", "payload": payload })).await;
            let message = socket.receive().await.expect("the answer comes first");
            assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!("last")), "{message}");
            let data = message["payload"]["data"].pointer(answer);
            assert!(data.is_some_and(|data| !data.is_null()), "{message}");
            let code = loop {
                match socket.receive().await {
                    Ok(message) => assert_eq!((&message["type"], &message["id"]), (&json!("complete"), &json!("last"))),
                    Err(code) => break code,
                }
            };
            assert_eq!(code, 4403, "{answer} in round {round}");
        }
        password = new;
    }
}

#[tokio::test]
async fn sockets_close_in_order_when_the_server_stops() {
    let app = App::embedded().await;
    let operator = app.operator(&["view"]).await;
    let mut live = operator.subscribe("subscription { viewerChanged { username } }", json!({})).await;
    live.next().await;
    app.shut_down();
    assert_eq!(live.end().await.last(), Some(&Event::Closed(1001)));
}

async fn caller_of(app: &App, operator: &Operator<'_>) -> Caller {
    let named = app.service.tokens().read(&operator.token).expect("a token");
    let reference = CallerRef { credentials: Credentials::Session(named), tenant: RequestedTenant::Home };
    app.service.find_caller(&reference).await.unwrap().expect("signed in")
}

/// The longest time over which subscribers spread what they do after the feed was lost, and the time that they wait for
/// the cache before.
const SPREAD: Duration = Duration::from_secs(1);
const CACHE_WAIT: Duration = Duration::from_secs(5);

type Entries = BoxStream<'static, Result<Arc<AuditEntry>, Error>>;

/// So many subscribers of one operator, who have received an entry and wait for the next.
async fn waiting_subscribers(app: &App, operator: &Operator<'_>, count: usize) -> Vec<Entries> {
    let caller = caller_of(app, operator).await;
    let view = [Permission::View].into_iter().collect();
    let mut subscribers: Vec<_> =
        (0..count).map(|_| app.service.entries(&caller, view, Subject::Tenant, None, |_| true).boxed()).collect();
    let mut first = unconstrained(join_all(subscribers.iter_mut().map(|subscriber| subscriber.next())));
    assert!(futures::poll!(&mut first).is_pending(), "they wait for an entry");
    operator.create_system("First").await;
    within(first).await;
    subscribers
}

/// Waits until each has received an entry with this name, by the clock of the runtime, which is paused: no time passes but
/// what the subscribers wait. Returns how long each has waited.
async fn waits_for_entry(subscribers: &mut [Entries], name: &str) -> Vec<Duration> {
    tokio::time::pause();
    let began = Instant::now();
    let received = within(join_all(subscribers.iter_mut().map(async |subscriber| {
        let entry = subscriber.next().await.expect("it goes on").expect("an entry");
        assert_eq!(entry.event.system_name.as_deref(), Some(name));
        began.elapsed()
    })));
    let waits = received.await;
    tokio::time::resume();
    waits
}

/// The share of these times in each tenth of [`SPREAD`], which begins after `start`.
fn shares(waits: &[Duration], start: Duration) -> [f64; 10] {
    let mut shares = [0.0; 10];
    for wait in waits {
        let tenth = wait.checked_sub(start).expect("not earlier").div_duration_f64(SPREAD) * 10.0;
        // Timers are rounded up to whole milliseconds.
        shares[(tenth - 0.01).max(0.0) as usize] += 1.0 / waits.len() as f64;
    }
    shares
}

#[tokio::test]
async fn after_a_lost_feed_five_thousand_subscribers_read_the_loaded_cache_spread_over_a_second() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let mut subscribers = waiting_subscribers(&app, &operator, 5_000).await;

    let reads = || switch.calls(&["find_session", "find_operator", "find_tenant", "list_audit_after"]);
    let (before, loads) = (reads(), switch.calls(&["scan_rows"]));
    let loading = switch.hold("scan_rows", 1);
    switch.break_feeds();
    switch.wait_for_calls("scan_rows", loads + 1).await;
    // Without a budget, so that all are polled.
    let mut second = unconstrained(join_all(subscribers.iter_mut().map(|subscriber| subscriber.next())));
    assert!(futures::poll!(&mut second).is_pending(), "they wait for the cache");
    drop((second, loading));
    app.wait_for_cache().await;
    operator.create_system("Second").await;
    let waits = waits_for_entry(&mut subscribers, "Second").await;

    assert_eq!(reads(), before, "one read for each of them was too many");
    let shares = shares(&waits, Duration::ZERO);
    assert!(shares.iter().all(|share| (0.08..0.12).contains(share)), "{shares:?}");
}

#[tokio::test]
async fn after_a_lost_feed_subscribers_read_the_store_if_the_cache_is_not_loaded_in_five_seconds() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.wait_for_cache().await;
    let operator = app.operator(&ALL).await;
    let mut subscribers = waiting_subscribers(&app, &operator, 500).await;

    let loads = switch.calls(&["scan_rows"]);
    let _loading = switch.hold("scan_rows", 1);
    switch.break_feeds();
    switch.wait_for_calls("scan_rows", loads + 1).await;
    operator.create_system("Second").await;
    let before = switch.calls(&["find_session"]);
    let waits = waits_for_entry(&mut subscribers, "Second").await;

    let shares = shares(&waits, CACHE_WAIT);
    assert!(shares.iter().all(|share| (0.04..0.16).contains(share)), "{shares:?}");
    assert!(switch.calls(&["find_session"]) >= before + 500);
}

#[tokio::test]
async fn without_leases_subscribers_spread_over_a_second_after_a_lost_feed_and_wait_for_no_cache() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::without_leases() }).await;
    app.wait_until(async || app.coherence.is_loaded()).await;
    let operator = app.operator(&ALL).await;
    let mut subscribers = waiting_subscribers(&app, &operator, 500).await;

    let listings = switch.calls(&["list_leases_at"]);
    switch.break_feeds();
    switch.wait_for_calls("list_leases_at", listings + 1).await;
    operator.create_system("Second").await;
    let waits = waits_for_entry(&mut subscribers, "Second").await;

    let shares = shares(&waits, Duration::ZERO);
    assert!(shares.iter().all(|share| (0.04..0.16).contains(share)), "{shares:?}");
}
