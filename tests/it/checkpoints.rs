//! Signed checkpoints: when the end of a log is signed, where the checkpoint is found, and the verification of exports.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::Method;
use keymark::admin::Command;
use keymark::service::checkpoint_file::FILE_NAME;
use mongodb::bson::{Document, doc};
use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::support::actors::{ALL, App, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::process::{Server, directory, keymark, run};
use crate::support::{on_both_stores, within};

on_both_stores![
    end_of_each_log_that_moved_is_signed_once,
    exports_are_verified_without_store_and_secret,
    changed_export_is_refused_with_its_first_bad_place,
    log_is_compared_with_archived_checkpoints,
    checkpoints_of_a_previous_secret_verify_and_are_signed_anew,
];

const OTHER_SECRET: &str = "another root secret, which replaces the first";

/// The newest checkpoints, as the command prints them.
async fn checkpoints(app: &App) -> Vec<Json> {
    let text = app.command(Command::CheckpointAudit).await.expect("intact logs");
    text.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON")["checkpoint"].take()).collect()
}

async fn metric(app: &App, name: &str) -> f64 {
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().expect("a number")
}

async fn end_of_each_log_that_moved_is_signed_once(app: App) {
    let operator = app.operator(&ALL).await;
    app.operator_of("other", &["view"]).await;
    app.clock.advance(Duration::from_secs(5));
    assert_eq!(metric(&app, "keymark_audit_checkpoint_age_seconds").await, 5.0);
    let first = checkpoints(&app).await;
    assert_eq!(metric(&app, "keymark_audit_checkpoint_age_seconds").await, 0.0);
    assert_eq!(metric(&app, "keymark_audit_checkpoints_total").await, 2.0);
    let log = app.log_of("acme").await;
    let last = log.last().expect("an entry");
    assert_eq!((&first[0]["tenant"], &first[1]["tenant"]), (&json!("acme"), &json!("other")));
    assert_eq!((&first[0]["number"], &first[0]["hash"]), (&last["number"], &last["hash"]));

    app.clock.advance(Duration::from_secs(5));
    operator.create_system("Billing").await;
    let second = checkpoints(&app).await;
    assert_eq!(second[1], first[1], "that log did not move");
    assert_eq!(second[0]["number"], log.len() + 1);
    assert_eq!(metric(&app, "keymark_audit_checkpoints_total").await, 3.0);

    let another = app.instance(2).await;
    assert_eq!(checkpoints(&another).await, second, "every instance finds them in the store");
    assert_eq!(metric(&another, "keymark_audit_checkpoints_total").await, 0.0);
}

#[tokio::test]
async fn checkpoints_are_signed_in_intervals_until_the_end() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&ALL).await;
    let (service, stop) = (app.service.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let interval = Duration::from_millis(1);
    let running = tokio::spawn(async move { keymark::app::run_checkpoints(&service, interval, stopped).await });
    within(switch.wait_for_calls("replace_setting", 1)).await;
    operator.create_system("Billing").await;
    within(switch.wait_for_calls("replace_setting", 2)).await;
    stop.cancel();
    within(running).await.expect("ended");
}

#[tokio::test]
async fn log_that_did_not_move_is_not_read_for_its_checkpoint() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.operator(&ALL).await;
    let first = checkpoints(&app).await;
    let read = switch.calls(&["list_audit_after", "find_audit_hashes"]);
    assert_eq!(checkpoints(&app).await, first);
    assert_eq!(switch.calls(&["list_audit_after", "find_audit_hashes"]), read);
}

/// Verifies an export with the binary, which has no store and no secret.
async fn verify(export: &str, key: Option<&str>) -> (i32, String) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(export.as_bytes()).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let key = key.map(|key| ["--key", key]).into_iter().flatten();
    let arguments: Vec<&str> = ["audit", "verify", "--file", &path].into_iter().chain(key).collect();
    let (code, out, err) = run(&[("KEYMARK_SECRET", "invalid")], &arguments).await;
    (code, format!("{out}{err}").replace(&path, "FILE"))
}

async fn exports_are_verified_without_store_and_secret(app: App) {
    let operator = app.operator(&ALL).await;
    for name in ["=HYPERLINK(\"http://x\")", "Plain, \"quoted\"", "日本語 system"] {
        let system = operator.create_system(name).await;
        operator.generate_key(&system.id).await;
    }
    let weak = app.operator(&["view"]).await;
    weak.try_create_system("Payroll").await;
    let published = app.anonymous().get("/audit/key").await;
    let key = published.body["publicKey"].as_str().expect("a key").to_owned();
    let id = published.body["keyId"].as_str().expect("an id");
    assert_eq!((&published.body["algorithm"], &published.body["previous"]), (&json!("Ed25519"), &json!([])));
    let printed = app.cli(&["audit", "key"]).await;
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), format!("{key}\n"));
    let mut key_file = NamedTempFile::new().expect("a file");
    writeln!(key_file, "{key}").expect("written");

    for format in ["jsonl", "csv"] {
        for (filter, entries) in
            [("", None), ("&actions=KEY_GENERATED,SIGNED_IN", Some(5)), ("&outcome=REFUSED", Some(1))]
        {
            let export = operator.get(&format!("/audit/export?format={format}{filter}")).await.text;
            let length = app.log_of("acme").await.len();
            let entries = entries.unwrap_or(length);
            let (code, said) = verify(&export, Some(&key)).await;
            assert_eq!(code, 0, "{said}");
            assert_eq!(
                said,
                format!(
                    "acme: {entries} of {length} entries, as they were exported at 2023-11-14T22:13:20.000Z; signed by key {id}\n"
                )
            );
            assert_eq!(verify(&export, key_file.path().to_str()).await.0, 0);
            let (code, said) = verify(&export, None).await;
            assert!(code == 0 && said.contains("The key was not compared. Use --key"), "{said}");
            let (code, said) = verify(&export, Some(&"ab".repeat(32))).await;
            assert!(code == 1 && said.contains("which is not one of the given keys"), "{said}");
        }
        let export = app.cli(&["audit", "export", "--tenant", "acme", "--format", format]).await;
        let (code, said) = verify(&String::from_utf8(export.stdout).unwrap(), Some(&key)).await;
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = verify("", Some("nonsense")).await;
    assert!(code == 2 && said.contains("neither a public key of 64 hex digits nor a file"), "{said}");
}

async fn changed_export_is_refused_with_its_first_bad_place(app: App) {
    let operator = app.operator(&ALL).await;
    for name in ["One", "Two", "Three", "Four"] {
        operator.create_system(name).await;
    }
    for (format, filter) in
        [("jsonl", ""), ("csv", ""), ("jsonl", "&actions=SYSTEM_CREATED"), ("csv", "&actions=SYSTEM_CREATED")]
    {
        let export = operator.get(&format!("/audit/export?format={format}{filter}")).await.text;
        let lines: Vec<&str> = export.split_inclusive('\n').collect();
        let at = lines.iter().position(|line| line.contains("Two")).expect("an entry");
        let number = 4;
        let said = async |lines: &[&str]| {
            let (code, said) = verify(&lines.concat(), None).await;
            assert_eq!(code, 1, "{format}{filter}: {said}");
            said
        };
        let changed = lines[at].replace("Two", "2wo");
        let text = said(&[&lines[..at], &[&changed], &lines[at + 1..]].concat()).await;
        assert_eq!(text, format!("keymark: FILE: entry {number}, or the one before it, was modified\n"));
        let text = said(&[&lines[..at], &lines[at + 1..]].concat()).await;
        assert_eq!(text, format!("keymark: FILE: entry {number} is missing: found entry 5 in its place\n"));
        let mut exchanged = lines.clone();
        exchanged.swap(at, at + 1);
        assert_eq!(said(&exchanged).await, text);
        let text = said(&lines[..=at]).await;
        assert!(text.contains("ends after entry 4 without a checkpoint: its end was cut off"), "{text}");
    }
}

#[tokio::test]
async fn log_that_was_changed_is_exported_without_a_checkpoint() {
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    operator.create_system("Billing").await;
    checkpoints(&app).await;
    operator.create_system("Payroll").await;
    let log = app.database().await.collection::<Document>("audit");
    let changed = doc! { "$set": { "event.systemName": "Forged" } };
    log.update_one(doc! { "tenant": "acme", "number": 4_i64 }, changed).await.expect("changed");
    let export = app.cli(&["audit", "export", "--tenant", "acme"]).await;
    let (out, said) = (String::from_utf8(export.stdout).unwrap(), String::from_utf8(export.stderr).unwrap());
    assert!(export.status.code() == Some(1) && said.contains("entry 4, or the one before it, was modified"), "{said}");
    assert!(out.lines().count() == 5 && !out.contains("checkpoint"), "{out}");
    assert_eq!(metric(&app, "keymark_audit_breaks_total").await, 0.0, "another process exported it");
    let refused = app.command(Command::CheckpointAudit).await.expect_err("the log was changed");
    assert_eq!(refused, "acme: entry 4, or the one before it, was modified");
    assert_eq!(metric(&app, "keymark_audit_breaks_total").await, 1.0);
}

async fn log_is_compared_with_archived_checkpoints(app: App) {
    app.operator(&ALL).await;
    let mut file = NamedTempFile::new().expect("a file");
    let printed = app.cli(&["audit", "checkpoint"]).await;
    assert_eq!(printed.status.code(), Some(0));
    file.write_all(&printed.stdout).expect("written");
    let path = file.path().to_str().unwrap().to_owned();
    let compare = async || {
        let compared = app.cli(&["audit", "verify", "--checkpoints", &path]).await;
        let text = String::from_utf8([compared.stdout, compared.stderr].concat()).unwrap();
        (compared.status.code(), text)
    };
    assert_eq!(compare().await, (Some(0), "acme: 2 entries, the chain is intact\n".to_owned()));
    let line = String::from_utf8(printed.stdout).unwrap();
    file.write_all(line.replace("\"acme\"", "\"acne\"").as_bytes()).expect("written");
    let (code, said) = compare().await;
    let expected = "acne: the checkpoint at entry 2 is not signed by the root secret or a previous one";
    assert!(code == Some(1) && said.contains(expected), "{said}");
    let exported = app.cli(&["audit", "export", "--tenant", "acme"]).await;
    std::fs::write(&path, exported.stdout).expect("written");
    assert_eq!(compare().await, (Some(0), "acme: 3 entries, the chain is intact\n".to_owned()));
    std::fs::write(&path, "nothing\n").expect("written");
    assert!(compare().await.1.contains("no checkpoints found"));
    // More than one MiB.
    std::fs::write(&path, line.repeat(2 * 1024 * 1024 / line.len())).expect("written");
    assert_eq!(compare().await, (Some(0), "acme: 3 entries, the chain is intact\n".to_owned()));
}

#[tokio::test]
async fn verification_ends_with_the_server() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    app.operator(&ALL).await;
    let _held = switch.hold("list_audit_after", usize::MAX);
    let before = switch.calls(&["list_audit_after"]);
    let verified = app.cli(&["audit", "verify"]);
    let stop = async {
        switch.wait_for_calls("list_audit_after", before + 1).await;
        app.shut_down();
    };
    let (verified, ()) = within(futures::future::join(verified, stop)).await;
    let said = String::from_utf8(verified.stderr).expect("text");
    assert!(verified.status.code() == Some(1) && said.contains("the server was stopped"), "{said}");
}

async fn checkpoints_of_a_previous_secret_verify_and_are_signed_anew(app: App) {
    let operator = app.operator(&ALL).await;
    let export = operator.get("/audit/export?format=jsonl").await.text;
    let before = checkpoints(&app).await;
    let replaced = Setup { secret: OTHER_SECRET, previous_secrets: &[SECRET], ..Setup::default() };
    let app = app.instance_with(2, replaced).await;
    assert!(app.command(Command::VerifyAudit { tenant: None }).await.is_ok());
    let keys = app.command(Command::ShowAuditKeys).await.expect("keys");
    let ids = app.anonymous().get("/audit/key").await.body;
    assert_eq!((before[0]["keyId"].clone(), keys.lines().count()), (ids["previous"][0]["keyId"].clone(), 2));
    assert_eq!(verify(&export, Some(&keys)).await.0, 0);
    assert_eq!(verify(&export, Some(keys.lines().next().unwrap())).await.0, 1);

    let after = checkpoints(&app).await;
    assert_eq!((&after[0]["number"], &after[0]["hash"]), (&before[0]["number"], &before[0]["hash"]));
    assert_eq!(after[0]["keyId"], ids["keyId"], "so that the previous secret can be removed");
    let without = app.instance_with(3, Setup { secret: OTHER_SECRET, ..Setup::default() }).await;
    assert!(without.command(Command::VerifyAudit { tenant: None }).await.is_ok());
}

#[tokio::test]
async fn end_of_the_log_is_signed_and_logged_at_shutdown() {
    let directory = directory();
    let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    let server = Server::start_with(directory.path(), &variables, &[]).await;
    let token = server.sign_in("admin", "given and long enough").await;
    server.graphql(Some(&token), "mutation { createSystem(name: \"Billing\") { system { id } } }", json!({})).await;
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    let path = directory.path().join(FILE_NAME);
    let text = std::fs::read_to_string(&path).expect("a file");
    let checkpoint = serde_json::from_str::<Json>(&text).expect("one line")["checkpoint"].take();
    assert_eq!((&checkpoint["tenant"], &checkpoint["number"]), (&json!("default"), &json!(3)));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let line = log.lines().rfind(|line| line.contains("audit checkpoint signed")).expect("a line");
    for (name, member) in [("hash", "hash"), ("key", "keyId"), ("signature", "signature")] {
        assert!(line.contains(&format!("{name}={}", checkpoint[member].as_str().unwrap())), "{line}");
    }
    assert!(line.contains("tenant=default number=3"), "{line}");

    // An older copy of the store beside the file.
    let data = directory.path().to_str().unwrap();
    let changed = text.replace("\"number\":3", "\"number\":4");
    std::fs::write(&path, changed).expect("written");
    let (code, _, said) = run(&[("KEYMARK_DATA_DIR", data)], &["audit", "verify"]).await;
    assert!(code == 1 && said.contains("the checkpoint at entry 4 is not signed by"), "{said}");
    std::fs::write(&path, text).expect("written");
    let (code, out, _) = run(&[("KEYMARK_DATA_DIR", data)], &["audit", "verify"]).await;
    assert_eq!((code, out.as_str()), (0, "default: 3 entries, the chain is intact\n"));
    let doctor = within(keymark().env("KEYMARK_DATA_DIR", data).arg("doctor").output()).await.expect("the binary runs");
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("ok       audit log: default: "));
}

#[tokio::test]
async fn store_older_than_the_file_beside_it_is_noticed() {
    let directory = directory();
    let store = directory.path().join("keymark.redb");
    let variables = [("KEYMARK_INITIAL_ADMIN_PASSWORD", "given and long enough")];
    Server::start_with(directory.path(), &variables, &[]).await.stop().await;
    let backup = std::fs::read(&store).expect("a store");
    let server = Server::start(directory.path()).await;
    server.sign_in("admin", "given and long enough").await;
    server.stop().await;
    std::fs::write(&store, backup).expect("restored");
    let data = directory.path().to_str().unwrap();
    let (code, _, said) = run(&[("KEYMARK_DATA_DIR", data)], &["audit", "verify"]).await;
    let expected = "default: entry 2 is missing: the log ends before it, but 2 entries were written";
    assert!(code == 1 && said.contains(expected), "{said}");
    let (code, _, said) = run(&[("KEYMARK_DATA_DIR", data)], &["audit", "checkpoint"]).await;
    assert!(code == 1 && said.contains("audit log differs from what was written"), "{said}");
}
