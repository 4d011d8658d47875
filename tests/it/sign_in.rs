//! Sign-in and sign-out, sessions, passwords, and limits on guessing.

use std::cell::Cell;
use std::time::Duration;

use http::Method;
use keymark::admin::Command;
use keymark::auth::cost::Cost;
use keymark::clock::Clock;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::ids::{AuditEntryId, RequestId};
use keymark::domain::operators::Password;
use keymark::domain::passwords::PASSWORD_RULE;
use keymark::domain::permissions::{Permission, Permissions};
use keymark::domain::sessions::{Session, SessionSecret};
use keymark::service::Settings;
use mongodb::Database;
use mongodb::bson::{Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::support::actors::{ALL, App, PASSWORD, Setup};
use crate::support::faulty::Switch;
use crate::support::sockets::Socket;
use crate::support::{on_both_stores, within};

on_both_stores![
    an_operator_signs_in_and_out,
    guesses_are_limited_across_instances_and_the_owner_can_still_sign_in,
    nobody_keeps_an_owner_out,
    limited_attempts_write_nothing,
    keys_are_revoked_through_a_flood_of_sign_ins,
    a_new_password_ends_all_sessions_but_its_own,
    a_sign_in_after_a_change_of_the_cost_hashes_the_password_anew,
    a_generated_first_password_is_good_for_24_hours_and_has_to_be_changed,
    a_password_from_before_the_rules_still_signs_in,
    the_oldest_of_more_than_100_sessions_ends,
    signing_in_with_a_live_cookie_ends_its_session,
    concurrent_sign_ins_exceed_100_sessions_only_until_the_next,
    an_idle_session_ends_on_every_instance,
    a_session_that_only_another_instance_knows_to_be_in_use_can_be_ended,
    an_idle_socket_is_closed,
];

const WRONG: &str = "not the password";
const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

async fn an_operator_signs_in_and_out(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&["view"]).await;
    assert!(operator.at(&other).is_signed_in().await);
    assert_eq!(operator.sign_out().await.data("signOut.signedOut"), true);
    for instance in [&app, &other] {
        assert!(!operator.at(instance).is_signed_in().await, "the session ended on every instance");
    }
    assert_eq!(
        app.anonymous().query("mutation { signOut { signedOut } }", json!({})).await.data("signOut.signedOut"),
        false
    );
    let actions: Vec<_> =
        app.log_of("acme").await.iter().map(|e| e["event"]["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["OPERATOR_ADDED", "SIGNED_IN", "SIGNED_OUT"]);
}

#[tokio::test]
async fn an_unknown_username_and_a_wrong_password_get_the_same_response() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let wrong = app.anonymous().sign_in("ada", WRONG).await;
    insta::assert_json_snapshot!(wrong.error(), @r#"
    {
      "extensions": {
        "code": "INVALID_CREDENTIALS"
      },
      "message": "The username or the password is wrong."
    }
    "#);
    for username in ["nobody", "", "no such name!", "ad\0a", "x".repeat(10_000).as_str()] {
        let unknown = app.anonymous().sign_in(username, WRONG).await;
        assert_eq!((unknown.status, &unknown.text), (wrong.status, &wrong.text), "{username:?}");
        assert_eq!(names_of(&unknown), names_of(&wrong), "the same headers");
    }
    for password in ["", "x".repeat(100_000).as_str()] {
        assert_eq!(app.anonymous().sign_in("ada", password).await.text, wrong.text);
    }
    assert_eq!(app.anonymous().sign_in("ADA", PASSWORD).await.data("signIn.viewer.username"), "ada");
}

fn names_of(answer: &crate::support::actors::Answer) -> Vec<&str> {
    answer.headers.keys().map(http::HeaderName::as_str).collect()
}

async fn guesses_are_limited_across_instances_and_the_owner_can_still_sign_in(app: App) {
    let other = app.instance(2).await;
    app.add_operator("acme", "ada", &[]).await;
    for i in 0..10 {
        let instance = if i % 2 == 0 { &app } else { &other };
        let answer = instance.anonymous().from("192.0.2.7").sign_in("ada", WRONG).await;
        assert_eq!(answer.code(), Some("INVALID_CREDENTIALS"), "guess {i}");
    }
    for instance in [&app, &other] {
        let limited = instance.anonymous().from("192.0.2.7").sign_in("ada", PASSWORD).await;
        insta::allow_duplicates! { insta::assert_json_snapshot!(limited.error(), @r#"
        {
          "extensions": {
            "code": "RATE_LIMITED",
            "retryAfterSeconds": 30
          },
          "message": "Too many attempts. Try again in 30 s."
        }
        "#); }
        assert_eq!(limited.header("retry-after"), Some("30"));
    }
    let owner = app.anonymous().from("198.51.100.1").sign_in("ada", PASSWORD).await;
    owner.data("signIn.token");
    app.clock.advance(Duration::from_secs(29));
    assert_eq!(other.anonymous().from("192.0.2.7").sign_in("ada", PASSWORD).await.code(), Some("RATE_LIMITED"));
    app.clock.advance(Duration::from_secs(1));
    other.anonymous().from("192.0.2.7").sign_in("ada", PASSWORD).await.data("signIn.token");
}

/// 200 addresses guess at an account for a minute: half of them IPv4, half IPv6 in sites of their own.
async fn nobody_keeps_an_owner_out(app: App) {
    let other = app.instance(2).await;
    app.add_operator("acme", "ada", &[]).await;
    let at_home = app.anonymous().from("198.51.100.1").sign_in("ada", PASSWORD).await;
    let device = device_cookie(&at_home);
    let attackers: Vec<_> = (0..100)
        .flat_map(|i| [format!("203.0.113.{i}"), format!("2001:db8:{i:x}::1")])
        .enumerate()
        .map(|(i, address)| if i % 3 == 0 { &app } else { &other }.anonymous().from(&address))
        .collect();
    let mut compared = 0;
    for _ in 0..60 {
        app.clock.advance(Duration::from_secs(1));
        let guesses = attackers.iter().map(|attacker| attacker.sign_in("ada", WRONG));
        let answers = futures::future::join_all(guesses).await;
        compared += answers.iter().filter(|answer| answer.code() == Some("INVALID_CREDENTIALS")).count();
    }
    // Each instance compares the passwords of 64 strangers at a time, who hold their places longer over MongoDB. In two
    // seconds these are at least 256 first attempts, and then 100 further ones.
    assert!((356..=1_100 + 60 / 4 + 60 / 6).contains(&compared), "{compared} guesses were compared");

    for instance in [&app, &other] {
        let known_network = instance.anonymous().from("198.51.100.1");
        known_network.sign_in("ada", PASSWORD).await.data("signIn.token");
        let known_browser = instance.anonymous().from("203.0.113.7").with("cookie", format!("theme=dark; {device}"));
        known_browser.sign_in("ada", PASSWORD).await.data("signIn.token");
        let fresh_browser = instance.anonymous().from("192.0.2.1");
        fresh_browser.sign_in("ada", PASSWORD).await.data("signIn.token");
    }
}

/// The name and value of the cookie by which the browser is recognized.
fn device_cookie(signed_in: &crate::support::actors::Answer) -> String {
    let cookies = signed_in.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let devices: Vec<_> = cookies.filter(|cookie| cookie.starts_with("keymark-device-")).collect();
    let [device] = devices[..] else { panic!("one cookie of a device, not {devices:?}") };
    assert!(device.ends_with("; Path=/; Max-Age=34560000; HttpOnly; SameSite=Strict"), "{device}");
    device.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn more_than_500_attacking_networks_keep_a_fresh_browser_out_for_8_seconds_each() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let guess = async |network: usize| {
        let address = format!("10.0.{}.{}", network / 250, network % 250);
        let answer = app.anonymous().from(&address).sign_in("ada", WRONG).await;
        answer.code() == Some("INVALID_CREDENTIALS")
    };
    for network in 0..520 {
        while guess(network).await {}
    }
    let owner = app.anonymous().from("192.0.2.1");
    assert_eq!(owner.sign_in("ada", PASSWORD).await.code(), Some("RATE_LIMITED"));
    // At worst, one of the 20 is always faster than the owner, and the others take what is left for further attempts.
    for late in 0..40 {
        app.clock.advance(Duration::from_secs(4));
        assert!(guess(500 + late / 2).await, "the 20 that came too late have two attempts each");
        while guess(100 + late).await {}
        if late % 8 == 0 {
            assert_eq!(owner.sign_in("ada", PASSWORD).await.code(), Some("RATE_LIMITED"));
        }
    }
    app.clock.advance(Duration::from_secs(4));
    owner.sign_in("ada", PASSWORD).await.data("signIn.token");
}

/// What sign-ins can call of the store that writes.
const WRITES: [&str; 4] = ["take_token", "return_token", "put_arrival", "commit"];

async fn limited_attempts_write_nothing(app: App) {
    let switch = Switch::default();
    let flooded = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.add_operator("acme", "ada", &[]).await;
    let attempts = 500;
    for (what, passing, addresses) in
        [("from one address", 10, 1), ("from its /56", 20, 200), ("from its /48", 40, 60_000)]
    {
        let before = switch.calls(&WRITES);
        for i in 0..attempts {
            let address = format!("2001:db8:{passing:x}:{:x}::{i:x}", i * 113 % addresses);
            let code = flooded.anonymous().from(&address).sign_in("ada", WRONG).await.code().unwrap().to_owned();
            assert!(matches!(code.as_str(), "INVALID_CREDENTIALS" | "RATE_LIMITED"), "{what}: {code}");
        }
        flooded.service.write_due_refusals().await;
        // At most eight buckets count an attempt; the log has at most ten entries a minute.
        let writes = switch.calls(&WRITES) - before;
        assert!(writes <= 8 * passing + 10, "{what}: {writes} writes");
    }
}

/// 2,000 sign-ins at once for ten seconds of the clock: of unknown usernames from one network, from as many networks, and
/// of one account. `docs/operations.md` states the bounds.
async fn keys_are_revoked_through_a_flood_of_sign_ins(app: App) {
    let switch = Switch::default();
    let flooded = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&ALL).await;
    let operator = operator.at(&flooded);
    let system = operator.create_system("Billing").await;
    let strangers = |i| format!("name-{i}");
    let at_account = |_| operator.username.clone();
    let floods: [(_, _, &dyn Fn(u32) -> String, _); 3] = [
        ("one network", 1, &strangers, 50 + 10 / 3),
        ("2,000 networks", 2_000, &strangers, 20_000),
        ("one account", 2_000, &at_account, 1_100 + 10 / 4 + 10 / 6),
    ];
    for (what, networks, username, most_compared) in floods {
        let (before, rows_before) = (switch.calls(&["take_token"]), app.rows().await);
        let is_over = Cell::new(false);
        let flood = async {
            let (mut compared, mut limited) = (0_u64, 0_u64);
            for _ in 0..10 {
                let attempts = (0..2_000).map(|i| {
                    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i % networks).to_string();
                    let (stranger, username) = (flooded.anonymous().from(&address), username(i));
                    async move { stranger.sign_in(&username, WRONG).await.code().unwrap().to_owned() }
                });
                for code in futures::future::join_all(attempts).await {
                    match code.as_str() {
                        "INVALID_CREDENTIALS" => compared += 1,
                        "RATE_LIMITED" => limited += 1,
                        code => panic!("{what}: {code}"),
                    }
                }
                app.clock.advance(Duration::from_secs(1));
            }
            is_over.set(true);
            (compared, limited)
        };
        let revocations = async {
            let mut count = 0;
            while count < 3 || !is_over.get() {
                operator.generate_key(&system.id).await;
                let revoked = operator.try_revoke_key(&system.id).await;
                assert_eq!(revoked.data("revokeKey.enforcement.state"), "ENFORCED", "{what}");
                count += 1;
            }
            count
        };
        let ((compared, limited), revocations) = tokio::join!(flood, revocations);
        assert_eq!(compared + limited, 20_000, "{what}");
        assert!(compared <= most_compared && limited > 0, "{what}: {compared} compared");
        let taken = switch.calls(&["take_token"]) - before;
        // Whenever the account has few tokens left, all but these of 64 attempts may have taken three others in vain.
        let in_vain = if what == "one account" { 64 * 3 * (2 + 10 / 4 + 10 / 6) } else { 4 };
        assert!(taken <= 4 * compared + in_vain, "{what}: {taken} tokens for {compared} attempts");
        flooded.service.write_due_refusals().await;
        let rows = app.rows().await;
        let grown = |table: &str| rows[table].saturating_sub(rows_before.get(table).copied().unwrap_or_default());
        assert!(grown("buckets") <= taken, "{what}: {} rows for {taken} tokens", grown("buckets"));
        for table in rows.keys().filter(|table| !["buckets", "feed"].contains(&table.as_str())) {
            // A revocation and the generation before it write two rows of each table, and each entry at most five to the
            // index by subject: system, actor, action, mark and refusal. The attempts at a known operator are in at most
            // ten entries.
            let entries = 2 * revocations + if what == "one account" { 10 } else { 0 };
            let most = entries * if table == "audit_by_subject" { 5 } else { 2 };
            assert!(grown(table) <= most, "{what}: {table} has grown by {}", grown(table));
        }
    }
}

#[tokio::test]
async fn successful_sign_ins_are_not_limited() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    for _ in 0..60 {
        app.anonymous().sign_in("ada", PASSWORD).await.data("signIn.token");
    }
}

#[tokio::test]
async fn an_address_that_tries_many_usernames_is_limited() {
    let app = App::embedded().await;
    let mut codes = Vec::new();
    for i in 0..51 {
        let answer = app.anonymous().from("2001:db8::1").sign_in(&format!("name-{i}"), WRONG).await;
        codes.push(answer.code().unwrap().to_owned());
    }
    assert!(codes[..50].iter().all(|code| code == "INVALID_CREDENTIALS"), "{codes:?}");
    assert_eq!(codes[50], "RATE_LIMITED");
    let neighbour = app.anonymous().from("2001:db8::ffff:2").sign_in("name-x", WRONG).await;
    assert_eq!(neighbour.code(), Some("RATE_LIMITED"), "a /64 counts as one address");
    let stranger = app.anonymous().from("2001:db8:0:1::1").sign_in("name-x", WRONG).await;
    assert_eq!(stranger.code(), Some("INVALID_CREDENTIALS"));
}

#[tokio::test]
async fn concurrent_guesses_are_all_counted() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let guesses =
        futures::future::join_all((0..30).map(|_| async { app.anonymous().sign_in("ada", WRONG).await })).await;
    let compared = guesses.iter().filter(|answer| answer.code() == Some("INVALID_CREDENTIALS")).count();
    assert_eq!(compared, 10);
    assert!(guesses.iter().all(|answer| matches!(answer.code(), Some("INVALID_CREDENTIALS" | "RATE_LIMITED"))));
}

#[tokio::test]
async fn a_flood_of_sign_ins_is_refused_and_does_not_delay_verifications() {
    let password_cost = Cost { memory_kib: 4 * 1024, passes: 2, lanes: 1 };
    let settings = Settings { password_cost, ..Setup::default().settings };
    let app = App::embedded_with(Setup { settings, ..Setup::default() }).await;
    let flood = (0..150).map(|i| {
        let stranger = app.anonymous().from(&format!("10.0.{i}.1"));
        async move {
            let answer = stranger.sign_in(&format!("name-{i}"), WRONG).await;
            let is_limited = answer.code() == Some("RATE_LIMITED");
            assert_eq!(answer.header("retry-after"), is_limited.then_some("1"));
            answer.error()["extensions"].clone()
        }
    });
    let has_ended = Cell::new(false);
    let flood = async {
        let answers = futures::future::join_all(flood).await;
        has_ended.set(true);
        answers
    };
    let verified = async {
        for _ in 0..50 {
            assert_eq!(app.verifier().code("nonsense").await, "MALFORMED");
            tokio::task::yield_now().await;
        }
        assert!(!has_ended.get(), "verifications complete while passwords are hashed");
    };
    let (answers, ()) = tokio::join!(flood, verified);
    let busy = json!({ "code": "RATE_LIMITED", "retryAfterSeconds": 1 });
    let refused = answers.iter().filter(|extensions| **extensions == busy).count();
    let compared = answers.iter().filter(|extensions| extensions["code"] == "INVALID_CREDENTIALS").count();
    assert!(refused > 0 && compared > 0 && refused + compared == 150, "{refused} and {compared}");
}

#[tokio::test]
async fn unknown_usernames_and_limited_attempts_are_counted() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    for username in ["ada", "nobody", "no name!"] {
        app.anonymous().sign_in(username, WRONG).await;
    }
    for _ in 0..9 {
        app.anonymous().sign_in("nobody", WRONG).await;
    }
    assert_eq!(app.anonymous().sign_in("nobody", WRONG).await.code(), Some("RATE_LIMITED"));
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    for line in [
        "keymark_sign_ins_total{outcome=\"refused\"} 12",
        "keymark_sign_ins_total{outcome=\"limited\"} 1",
        "keymark_sign_ins_unknown_username_total 11",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn guesses_in_one_document_are_counted_individually() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let guesses = |count| {
        let fields: Vec<_> =
            (0..count).map(|i| format!("g{i}: signIn(username: \"ada\", password: \"{WRONG}\") {{ token }}")).collect();
        format!("mutation {{ {} }}", fields.join(" "))
    };
    for too_many in [21, 1000] {
        assert_eq!(app.anonymous().query(&guesses(too_many), json!({})).await.code(), Some("QUERY_TOO_COMPLEX"));
    }
    let answer = app.anonymous().query(&guesses(20), json!({})).await;
    let errors = answer.body["errors"].as_array().expect("errors").iter();
    let codes: Vec<_> = errors.map(|error| error["extensions"]["code"].as_str().expect("a code")).collect();
    assert_eq!(codes, [["INVALID_CREDENTIALS"; 10], ["RATE_LIMITED"; 10]].concat());
}

async fn a_new_password_ends_all_sessions_but_its_own(app: App) {
    let other = app.instance(2).await;
    let operator = app.operator(&["view"]).await;
    let beside = other.sign_in(&operator.username, PASSWORD).await;
    for (current, new, code) in [
        (WRONG, "a new password", "INVALID_CREDENTIALS"),
        (PASSWORD, "eleven char", "INVALID_PASSWORD"),
        (PASSWORD, &"x".repeat(1025), "INVALID_PASSWORD"),
        (PASSWORD, "Password1234!", "INVALID_PASSWORD"),
        (PASSWORD, "the Keymark server", "INVALID_PASSWORD"),
        (PASSWORD, &format!("I am {}", operator.username.to_uppercase()), "INVALID_PASSWORD"),
    ] {
        let refused = operator.change_password(current, new).await;
        assert_eq!(refused.code(), Some(code));
        if code == "INVALID_PASSWORD" {
            let message = refused.error()["message"].as_str().expect("a message").to_owned();
            assert!(message.ends_with(PASSWORD_RULE), "{message}");
        }
    }
    assert!(operator.is_signed_in().await && beside.is_signed_in().await, "no session ended so far");

    let changed = operator.change_password(PASSWORD, "a new password").await;
    let token = changed.data("changePassword.token").as_str().unwrap().to_owned();
    for instance in [&app, &other] {
        assert!(!operator.at(instance).is_signed_in().await && !beside.at(instance).is_signed_in().await);
        let answer = instance.anonymous().bearing(&token).query("{ viewer { username } }", json!({})).await;
        assert_eq!(answer.data("viewer.username"), operator.username.as_str());
    }
    assert_eq!(app.anonymous().sign_in(&operator.username, PASSWORD).await.code(), Some("INVALID_CREDENTIALS"));
    app.sign_in(&operator.username, "a new password").await;
}

async fn a_sign_in_after_a_change_of_the_cost_hashes_the_password_anew(app: App) {
    let operator = app.operator(&["view"]).await;
    let username = operator.username.parse().expect("a username");
    let stored = async || {
        let found = app.store.find_operator_by_username(&username).await.expect("a store").expect("an operator");
        let phc = found.password_hash.as_phc().to_owned();
        (phc.rsplitn(3, '$').last().expect("a cost").to_owned(), phc, found.password_version)
    };
    let (cost, before, version) = stored().await;
    assert_eq!(cost, "$argon2id$v=19$m=8,t=1,p=1");
    for (number, cost) in [(2, Cost { memory_kib: 16, passes: 3, lanes: 1 }), (3, Cost { passes: 2, ..CHEAP })] {
        let settings = Settings { password_cost: cost, ..Setup::default().settings };
        let instance = app.instance_with(number, Setup { settings, ..Setup::default() }).await;
        let refused = instance.anonymous().sign_in(&operator.username, WRONG).await;
        assert_eq!(refused.code(), Some("INVALID_CREDENTIALS"));
        assert_ne!(stored().await.0, format!("$argon2id$v=19${cost}"), "a refused sign-in changes nothing");
        instance.sign_in(&operator.username, PASSWORD).await;
        let (found, rehashed, found_version) = stored().await;
        assert_eq!((found, found_version), (format!("$argon2id$v=19${cost}"), version));
        assert_ne!(rehashed, before);
        instance.sign_in(&operator.username, PASSWORD).await;
        assert_eq!(stored().await.1, rehashed, "at the same cost it stays");
        assert!(operator.at(&instance).is_signed_in().await, "the sessions of before go on");
    }
    app.sign_in(&operator.username, PASSWORD).await;
}

async fn a_generated_first_password_is_good_for_24_hours_and_has_to_be_changed(app: App) {
    const VIEWER: &str = "{ viewer { mustChangePassword } }";
    const GENERATED: &str = "generated4fJ0generated";
    assert!(app.service.create_first_operator(Password::unchecked(GENERATED.to_owned()), true).await.expect("created"));
    let admin = app.sign_in("admin", GENERATED).await;
    assert_eq!(admin.query(VIEWER, json!({})).await.data("viewer.mustChangePassword"), true);
    let (username, view) = ("admin".parse().unwrap(), [Permission::View].into_iter().collect());
    app.command(Command::SetPermissions { username, permissions: view, all: false }).await.expect("changed");
    assert_eq!(admin.query(VIEWER, json!({})).await.data("viewer.mustChangePassword"), true);
    assert_eq!(admin.change_password(GENERATED, GENERATED).await.code(), Some("INVALID_PASSWORD"), "the same one");

    app.clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    app.sign_in("admin", GENERATED).await;
    app.clock.advance(Duration::from_secs(1));
    let expired = app.anonymous().sign_in("admin", GENERATED).await;
    insta::allow_duplicates! { insta::assert_json_snapshot!(expired.error(), @r#"
    {
      "extensions": {
        "code": "PASSWORD_EXPIRED"
      },
      "message": "The generated password has expired. Ask an administrator to reset it, or run `keymark operator set-password`."
    }
    "#); }
    let wrong = app.anonymous().sign_in("admin", WRONG).await;
    assert_eq!(wrong.code(), Some("INVALID_CREDENTIALS"), "only who has the password learns that it has expired");
    let last = app.log_of("default").await.into_iter().rfind(|entry| entry["event"]["errorCode"] == "PASSWORD_EXPIRED");
    assert_eq!(last.expect("an entry")["event"]["action"], "SIGN_IN_REFUSED");

    let set = Command::SetPassword { username: "admin".parse().unwrap(), password: Some(PASSWORD.to_owned()) };
    app.command(set).await.expect("set");
    let admin = app.sign_in("admin", PASSWORD).await;
    assert_eq!(admin.query(VIEWER, json!({})).await.data("viewer.mustChangePassword"), false);
    app.clock.advance(Duration::from_secs(7 * 24 * 60 * 60));
    app.sign_in("admin", PASSWORD).await;
}

async fn a_password_from_before_the_rules_still_signs_in(app: App) {
    let origin = app.service.command_line_origin(None);
    let (tenant, username) = ("acme".parse().unwrap(), "ada".parse().unwrap());
    let short = Password::unchecked("password".to_owned());
    app.service.add_operator(&origin, tenant, username, short, Permissions::NONE).await.expect("added");
    let ada = app.sign_in("ada", "password").await;
    let viewer = ada.query("{ viewer { mustChangePassword } }", json!({})).await;
    assert_eq!(viewer.data("viewer.mustChangePassword"), false);
}

#[tokio::test]
async fn the_command_line_refuses_passwords_that_break_the_rules() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let username = || "ada".parse().expect("a username");
    for password in ["too short", "sonyericsson", "this is ada!", "keymark keymark"] {
        let password = || Some(password.to_owned());
        let tenant = "acme".parse().expect("a tenant");
        let add =
            Command::AddOperator { tenant, username: username(), password: password(), permissions: Permissions::NONE };
        let set = Command::SetPassword { username: username(), password: password() };
        for command in [add, set] {
            let refused = app.command(command).await.expect_err("refused");
            assert!(refused.ends_with(PASSWORD_RULE), "{refused}");
        }
    }
    app.sign_in("ada", PASSWORD).await;
}

async fn the_oldest_of_more_than_100_sessions_ends(app: App) {
    let other = app.instance(2).await;
    app.add_operator("acme", "ada", &[]).await;
    app.add_operator("acme", "bob", &[]).await;
    let bob = app.sign_in("bob", PASSWORD).await;
    let mut sessions = Vec::new();
    for _ in 0..103 {
        app.clock.advance(Duration::from_secs(1));
        sessions.push(app.sign_in("ada", PASSWORD).await);
    }
    for instance in [&app, &other] {
        for (i, session) in sessions.iter().enumerate() {
            assert_eq!(session.at(instance).is_signed_in().await, i >= 3, "session {i}");
        }
        assert!(bob.at(instance).is_signed_in().await);
    }
    let ended: Vec<_> = app.log_of("acme").await.iter().map(|entry| entry["event"]["action"].clone()).collect();
    assert_eq!(ended.len(), 2 + 104, "each ended in the batch of a sign-in");
}

async fn concurrent_sign_ins_exceed_100_sessions_only_until_the_next(app: App) {
    let other = app.instance(2).await;
    app.add_operator("acme", "ada", &[]).await;
    app.sign_in("ada", PASSWORD).await;
    let row = only_session(&app, "ada").await;
    add_sessions(&app, &row, 99).await;
    app.clock.advance(Duration::from_secs(1));
    let concurrent = (0..20).map(|i| {
        let browser = if i % 2 == 0 { &app } else { &other }.anonymous().from(&format!("192.0.2.{i}"));
        async move { browser.sign_in("ada", PASSWORD).await.data("signIn.token").as_str().unwrap().to_owned() }
    });
    let concurrent = futures::future::join_all(concurrent).await;
    let sessions = app.store.list_sessions(row.operator).await.unwrap().len();
    assert!((100..120).contains(&sessions), "each has ended one of the 100 at least: {sessions}");
    let last = other.sign_in("ada", PASSWORD).await;
    assert_eq!(app.store.list_sessions(row.operator).await.unwrap().len(), 100);
    assert!(last.is_signed_in().await);
    for token in concurrent {
        let viewer = app.anonymous().bearing(&token).query("{ viewer { username } }", json!({})).await;
        assert_eq!(viewer.data("viewer.username"), "ada", "older ones end first");
    }
}

async fn signing_in_with_a_live_cookie_ends_its_session(app: App) {
    let other = app.instance(2).await;
    app.add_operator("acme", "ada", &[]).await;
    app.add_operator("bolt", "bob", &[]).await;
    let sign_in = async |browser: crate::support::actors::Caller<'_>, username: &str| {
        let answer = browser.on_own_page().sign_in(username, PASSWORD).await;
        answer.data("signIn.token").as_str().unwrap().to_owned()
    };
    let is_valid = async |token: &str| {
        let query = "{ viewer { username } }";
        let statuses = futures::future::join_all([&app, &other].map(|instance| async {
            instance.anonymous().bearing(token).query(query, json!({})).await.status.is_success()
        }));
        let statuses = statuses.await;
        assert_eq!(statuses[0], statuses[1], "on every instance");
        statuses[0]
    };
    let first = sign_in(app.anonymous(), "ada").await;
    let by_bearer = sign_in(app.anonymous().bearing(&first), "ada").await;
    assert!(is_valid(&first).await, "a bearer token is no cookie");
    let second = sign_in(app.anonymous().with_cookie(&first), "ada").await;
    assert!(!is_valid(&first).await && is_valid(&second).await && is_valid(&by_bearer).await);
    let refused = app.anonymous().with_cookie(&second).on_own_page().sign_in("ada", WRONG).await;
    assert_eq!(refused.code(), Some("INVALID_CREDENTIALS"));
    assert!(is_valid(&second).await, "a failed sign-in ends nothing");
    let bobs = sign_in(app.anonymous().with_cookie(&second), "bob").await;
    assert!(!is_valid(&second).await && is_valid(&bobs).await, "of another operator, in another tenant");
    let actions = async |tenant| {
        let log = app.log_of(tenant).await;
        log.iter().skip(1).map(|entry| entry["event"]["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(actions("acme").await, ["SIGNED_IN", "SIGNED_IN", "SIGNED_IN", "SIGN_IN_REFUSED", "SIGNED_OUT"]);
    assert_eq!(actions("bolt").await, ["SIGNED_IN"]);
}

async fn instances_with_idle_limit(app: &App, limit: Duration) -> (App, App) {
    let setup =
        || Setup { settings: Settings { session_idle: Some(limit), ..Setup::default().settings }, ..Setup::default() };
    (app.instance_with(2, setup()).await, app.instance_with(3, setup()).await)
}

async fn an_idle_session_ends_on_every_instance(app: App) {
    const MINUTE: Duration = Duration::from_secs(60);
    let (one, two) = instances_with_idle_limit(&app, 30 * MINUTE).await;
    let operator = one.operator(&["view"]).await;
    let unused = one.sign_in(&operator.username, PASSWORD).await;
    let entries = app.log_of("acme").await.len();
    for instance in [&two, &one, &two] {
        app.clock.advance(29 * MINUTE);
        assert!(operator.at(instance).is_signed_in().await, "the other instance has used it");
        instance.service.write_activity().await;
    }
    for instance in [&one, &two] {
        assert!(!unused.at(instance).is_signed_in().await);
    }
    assert!(unused.at(&app).is_signed_in().await, "off by default");

    app.clock.advance(29 * MINUTE);
    assert!(operator.at(&one).is_signed_in().await);
    one.service.write_activity().await;
    app.clock.advance(31 * MINUTE);
    for instance in [&one, &two] {
        assert!(!operator.at(instance).is_signed_in().await);
    }
    one.store.purge(one.clock.now(), one.clock.now()).await.unwrap();
    assert!(!operator.at(&one).is_signed_in().await, "also after a purge");
    assert_eq!(app.log_of("acme").await.len(), entries, "activity is in no audit log");
}

async fn a_session_that_only_another_instance_knows_to_be_in_use_can_be_ended(app: App) {
    let (one, two) = instances_with_idle_limit(&app, Duration::from_secs(120)).await;
    for ending in ["operatorId", "sessionId", "others"] {
        let operator = two.operator(&ALL).await;
        let used = two.sign_in(&operator.username, PASSWORD).await;
        let session = used.query("{ viewer { id sessions { id isCurrent } } }", json!({})).await;
        let sessions = session.data("viewer.sessions").as_array().expect("sessions");
        let current = sessions.iter().find(|session| session["isCurrent"] == true).expect("a current session");
        two.service.write_activity().await;
        app.clock.advance(Duration::from_secs(170));
        assert!(used.is_signed_in().await && operator.is_signed_in().await, "not idle yet");
        app.clock.advance(Duration::from_secs(15));
        // Not written yet.
        let ender = match ending {
            "others" => one.sign_in(&operator.username, PASSWORD).await,
            _ => one.operator(&["view", "operator_management:edit"]).await,
        };
        let arguments = match ending {
            "operatorId" => format!("(operatorId: {})", session.data("viewer.id")),
            "sessionId" => format!("(sessionId: {})", current["id"]),
            _ => String::new(),
        };
        let ended = ender.query(&format!("mutation {{ endSessions{arguments} {{ ended }} }}"), json!({})).await;
        assert!(ended.data("endSessions.ended").as_u64().expect("a number") > 0, "{ending}");
        assert!(!used.is_signed_in().await, "{ending}");
    }
}

/// Sessions end 60 s after the time that is set, since uses are recorded to the minute. A use is recorded 60 s after the
/// last one.
async fn an_idle_socket_is_closed(app: App) {
    let (one, two) = instances_with_idle_limit(&app, Duration::from_millis(10)).await;
    let used_here = one.operator(&["view"]).await;
    let (used_elsewhere, idle) = (one.operator(&["view"]).await, one.operator(&["view"]).await);
    let operators = [&used_here, &used_elsewhere, &idle];
    for operator in operators {
        assert!(operator.is_signed_in().await);
    }
    app.clock.advance(Duration::from_millis(59_995));
    let address = one.listen().await;
    let mut sockets = Vec::new();
    for operator in operators {
        let payload = json!({ "authorization": format!("Bearer {}", operator.token) });
        let mut socket = Socket::open(address, &[], payload).await;
        socket.acknowledged().await.expect("acknowledged");
        // Its first event shows that the subscription has begun.
        let document = "subscription { viewerChanged { username } }";
        socket.send(json!({ "type": "subscribe", "id": "open", "payload": { "query": document } })).await;
        assert_eq!(socket.receive().await.expect("an event")["type"], "next");
        sockets.push(socket);
    }
    let [here, elsewhere, unused] = &mut sockets[..] else { panic!("three") };
    let is_served = async |socket: &mut Socket| {
        let query = json!({ "type": "subscribe", "id": "use", "payload": { "query": "{ viewer { username } }" } });
        socket.send(query).await;
        let answer = socket.receive().await.expect("an answer");
        assert_eq!(answer["type"], "next", "{answer}");
        assert_eq!(socket.receive().await.expect("an answer")["type"], "complete");
    };
    app.clock.advance(Duration::from_millis(10));
    is_served(here).await;
    assert!(used_elsewhere.at(&two).is_signed_in().await);
    two.service.write_activity().await;
    app.clock.advance(Duration::from_millis(5));
    assert_eq!(within(unused.receive()).await, Err(4403));
    is_served(here).await;
    is_served(elsewhere).await;
}

#[tokio::test]
async fn an_operator_with_any_number_of_sessions_can_be_evicted() {
    for (app, sessions) in [(App::embedded().await, 2_000_usize), (App::mongodb().await, 100_000)] {
        let operator = app.operator(&["view"]).await;
        let row = only_session(&app, &operator.username).await;
        if sessions == 2_000 {
            add_sessions(&app, &row, sessions).await;
        } else {
            insert_sessions(&app.database().await, sessions).await;
        }
        let last = app.sign_in(&operator.username, PASSWORD).await;
        let password = Some("another good password".to_owned());
        let username = operator.username.parse().unwrap();
        app.command(Command::SetPassword { username, password }).await.expect("changed");
        assert!(!operator.is_signed_in().await && !last.is_signed_in().await);
        let fresh = app.sign_in(&operator.username, "another good password").await;
        app.service.finish().await;
        assert!(fresh.is_signed_in().await);
        let left = app.store.list_sessions(row.operator).await.unwrap();
        assert_eq!(left.len(), 1, "the others are purged");
        fresh.be_removed().await;
        assert!(!fresh.is_signed_in().await);
    }
}

/// The operator's session in the store.
async fn only_session(app: &App, username: &str) -> Session {
    let operator = app.store.find_operator_by_username(&username.parse().unwrap()).await.unwrap().unwrap();
    app.store.list_sessions(operator.id).await.unwrap().swap_remove(0)
}

/// Adds copies of a session.
async fn add_sessions(app: &App, session: &Session, count: usize) {
    let mut rng = StdRng::seed_from_u64(9);
    let origin = Origin {
        actor: AuditActor::keymark(),
        source_address: None,
        request_id: RequestId::new(session.created_at, &mut rng),
    };
    for start in (0..count).step_by(500) {
        let id = AuditEntryId::new(session.created_at, &mut rng);
        let event = AuditEvent::new(id, session.created_at, &origin, AuditAction::SignedIn);
        let batch = Batch::new(session.tenant.clone(), event);
        let batch = (start..count.min(start + 500)).fold(batch, |batch, _| {
            let id = SessionSecret::generate(&mut rng).id();
            batch.insert(Row::Session(Session { id, ..session.clone() }))
        });
        app.store.commit(batch).await.unwrap();
    }
}

/// Adds copies of the only session of a database.
async fn insert_sessions(database: &Database, count: usize) {
    let sessions = database.collection::<Document>("sessions");
    let session = sessions.find_one(doc! {}).await.unwrap().expect("a session");
    let mut copies = (0..count).map(|i| {
        let mut copy = session.clone();
        copy.insert("_id", format!("{i:064x}"));
        copy
    });
    loop {
        let some: Vec<_> = copies.by_ref().take(10_000).collect();
        if some.is_empty() {
            return;
        }
        sessions.insert_many(some).await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_operator_loses_access_immediately_and_a_namesake_inherits_nothing() {
    let app = App::embedded().await;
    let operator = app.operator(&["view"]).await;
    operator.be_removed().await;
    assert!(!operator.is_signed_in().await);
    assert_eq!(app.anonymous().sign_in(&operator.username, PASSWORD).await.code(), Some("INVALID_CREDENTIALS"));
    app.add_operator("other", &operator.username, &["view", "create"]).await;
    assert!(!operator.is_signed_in().await, "the old token belongs to the removed operator");
}

#[tokio::test]
async fn a_session_ends_when_it_expires() {
    let app = App::embedded().await;
    app.add_operator("acme", "ada", &[]).await;
    let answer = app.anonymous().sign_in("ada", PASSWORD).await;
    assert_eq!(answer.data("signIn.expiresAt"), "2023-11-15T10:13:20.000Z", "12 hours");
    let operator = app.sign_in("ada", PASSWORD).await;
    app.clock.advance(Duration::from_secs(12 * 60 * 60 - 1));
    assert!(operator.is_signed_in().await);
    app.clock.advance(Duration::from_secs(1));
    assert!(!operator.is_signed_in().await);

    let settings = Settings { session_lifetime: Duration::from_secs(60), ..Setup::default().settings };
    let app = App::embedded_with(Setup { settings, ..Setup::default() }).await;
    app.add_operator("acme", "ada", &[]).await;
    assert_eq!(app.anonymous().sign_in("ada", PASSWORD).await.data("signIn.expiresAt"), "2023-11-14T22:14:20.000Z");
}

#[tokio::test]
async fn a_bad_token_is_an_error() {
    let app = App::embedded().await;
    let operator = app.operator(&["view"]).await;
    let (head, signature) = operator.token.rsplit_once('.').unwrap();
    let tampered = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for authorization in [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic YTpi",
        "",
        &operator.token,
        &format!("Bearer {tampered}"),
    ] {
        let answer =
            app.anonymous().with("authorization", authorization).query("{ viewer { username } }", json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, Some("UNAUTHENTICATED")), "{authorization:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let twice = (*operator).clone().bearing(&operator.token).query("{ viewer { username } }", json!({})).await;
    assert_eq!(twice.status, 401);
    let lower = format!("bearer {}", operator.token);
    let answer = app.anonymous().with("authorization", lower).query("{ viewer { username } }", json!({})).await;
    answer.data("viewer.username");
}

#[tokio::test]
async fn an_operator_added_by_the_command_line_can_sign_in_with_the_printed_password() {
    let app = App::embedded().await;
    let added = app.cli(&["operator", "add", "Ada", "--permissions", "view,create", "--tenant", "acme"]).await;
    let text = String::from_utf8(added.stdout).unwrap();
    let password = text.lines().find_map(|line| line.strip_prefix("Password: ")).expect("a password");
    let password = password.trim_end_matches(" (shown once)");
    let operator = app.sign_in("ada", password).await;
    operator.create_system("Billing").await;

    let listed = app.cli(&["operator", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("ada\tacme\top_") && listed.contains("api_key_management:view,api_key_management:create"),
        "{listed}"
    );
    app.cli(&["operator", "set-permissions", "ada", "none"]).await;
    assert_eq!(operator.try_create_system("Payroll").await.code(), Some("FORBIDDEN"));
    app.cli(&["operator", "remove", "ada"]).await;
    assert!(!operator.is_signed_in().await);
    let gone = app.cli(&["operator", "remove", "ada"]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(!String::from_utf8(gone.stderr).unwrap().contains("panicked"));
    assert!(app.command(Command::ListOperators { tenant: None }).await.unwrap().is_empty());
}
