//! `keymark backup` and `keymark restore`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::future::join_all;
use serde_json::{Value as Json, json};

use crate::support::mongod;
use crate::support::process::{Server, directory, run};

const PASSWORD: &str = "a passphrase for the tests";
const REVOKE: &str = "mutation ($id: ID!) { revokeKey(systemId: $id) { enforcement { state } } }";

/// The binary on the embedded store in this directory.
async fn keymark(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    run(&[("KEYMARK_DATA_DIR", text(directory))], arguments).await
}

async fn start(directory: &Path) -> Server {
    Server::start_with(directory, &[("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)], &[]).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Systems by id, each with its key.
async fn create_keys(server: &Server, token: &str, count: usize) -> Vec<(Json, String)> {
    let mut keys = Vec::new();
    for number in 0..count {
        let create = "mutation ($n: String!) { createSystem(name: $n) { system { id } } }";
        let created = server.graphql(Some(token), create, json!({ "n": format!("System {number}") })).await;
        let id = json!({ "id": created["data"]["createSystem"]["system"]["id"] });
        let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
        let generated = server.graphql(Some(token), generate, id.clone()).await;
        keys.push((id, generated["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned()));
    }
    keys
}

async fn revoke(server: &Server, token: &str, id: &Json) {
    let revoked = server.graphql(Some(token), REVOKE, id.clone()).await;
    assert_eq!(revoked["data"]["revokeKey"]["enforcement"]["state"], "ENFORCED", "{revoked}");
}

async fn is_signed_in(server: &Server, token: &str) -> bool {
    server.graphql(Some(token), "{ viewer { username } }", json!({})).await["errors"].is_null()
}

#[tokio::test]
async fn no_key_that_was_revoked_during_or_after_a_backup_is_valid_after_restore_and_replay() {
    let (original, copies, other) = (directory(), directory(), directory());
    let server = start(original.path()).await;
    let token = server.sign_in("admin", PASSWORD).await;
    let keys = create_keys(&server, &token, 40).await;
    let (during, rest) = keys.split_at(30);
    let (after, kept) = rest.split_at(5);

    let file = copies.path().join("first.redb");
    let revoked = join_all(during.iter().map(|(id, _)| revoke(&server, &token, id)));
    let arguments = ["backup", text(&file)];
    let (backup, _) = tokio::join!(keymark(original.path(), &arguments), revoked);
    assert_eq!(backup.0, 0, "{}", backup.2);
    assert!(backup.1.contains(&format!("{}: 40 keys, ", file.display())), "{}", backup.1);
    let secret = original.path().join("secret");
    assert!(backup.1.ends_with(&format!("keep a copy of {}\n", secret.display())), "{}", backup.1);
    assert_eq!(names(copies.path()), ["first.redb"]);
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);

    for (id, _) in after {
        revoke(&server, &token, id).await;
    }
    let (code, export, said) = keymark(original.path(), &["audit", "export"]).await;
    assert_eq!(code, 0, "{said}");
    let export_file = copies.path().join("export.jsonl");
    std::fs::write(&export_file, export).expect("written");
    server.stop().await;

    std::fs::copy(&secret, other.path().join("secret")).expect("copied");
    let (code, said, log) = keymark(other.path(), &["restore", text(&file)]).await;
    assert_eq!(code, 0, "{log}");
    assert!(said.contains("default: epoch 1: a backup restored by ") && said.contains(" is restored from "), "{said}");
    let (code, said, log) = keymark(other.path(), &["audit", "replay", "--file", text(&export_file)]).await;
    assert!(code == 0 && said.contains("revoked key"), "{said}{log}");

    let server = start(other.path()).await;
    for (_, key) in during.iter().chain(after) {
        assert_eq!(server.verdict(key).await, "REVOKED");
    }
    for (_, key) in kept {
        assert_eq!(server.verdict(key).await, "VALID");
    }
    assert!(!is_signed_in(&server, &token).await, "sessions of before a restore have ended");
    server.sign_in("admin", PASSWORD).await;
    server.stop().await;
    let (code, said, _) = keymark(other.path(), &["audit", "verify"]).await;
    assert!(code == 0 && said.contains("the chain is intact"), "{said}");
}

#[tokio::test]
async fn a_backup_replaces_no_file_and_leaves_none_after_an_error() {
    let (data, copies) = (directory(), directory());
    let server = start(data.path()).await;
    let taken = copies.path().join("taken");
    std::fs::write(&taken, "something else").expect("written");
    let nowhere = copies.path().join("missing").join("file");
    let running = async |file: &Path, expected: &str| {
        let (code, _, said) = keymark(data.path(), &["backup", text(file)]).await;
        assert!(code == 1 && said.contains(expected), "{said}");
        assert_eq!(names(copies.path()), ["taken"]);
        assert_eq!(std::fs::read(&taken).expect("a file"), b"something else");
    };
    running(&taken, "taken: the file exists; choose another name").await;
    running(&nowhere, "No such file or directory").await;
    server.stop().await;
    running(&taken, "taken: the file exists; choose another name").await;

    let (code, said, log) = keymark(data.path(), &["backup", text(&copies.path().join("cold"))]).await;
    assert!(code == 0 && said.contains("cold: 0 keys, "), "without a server, the command reads the store: {said}{log}");
    let unfinished = copies.path().join("next.partial");
    std::fs::write(&unfinished, "").expect("written");
    let (code, _, said) = keymark(data.path(), &["backup", text(&copies.path().join("next"))]).await;
    assert!(code == 1 && said.contains("was interrupted") && said.contains("next.partial exists; remove it"), "{said}");
}

#[tokio::test]
async fn a_restore_changes_nothing_unless_the_backup_and_the_directory_are_fit_for_it() {
    let (data, copies, empty) = (directory(), directory(), directory());
    let server = start(data.path()).await;
    let token = server.sign_in("admin", PASSWORD).await;
    let file = copies.path().join("backup");
    assert_eq!(keymark(data.path(), &["backup", text(&file)]).await.0, 0);
    let keys = create_keys(&server, &token, 1).await;

    let refused = async |directory: &Path, arguments: &[&str], expected: &str| {
        let before = names(directory);
        let (code, _, said) = keymark(directory, arguments).await;
        assert!(code != 0 && said.contains(expected), "{said}");
        assert_eq!(names(directory), before, "nothing is left");
    };
    refused(data.path(), &["restore", text(&file)], "it contains a store; use --replace").await;
    let in_use = format!("process {} is using it", server.id());
    refused(data.path(), &["restore", "--replace", text(&file)], &in_use).await;
    assert_eq!(server.verdict(&keys[0].1).await, "VALID");
    server.stop().await;

    let whole = std::fs::read(&file).expect("a backup");
    let damaged = copies.path().join("damaged");
    let mut flipped = whole.clone();
    let at = whole.windows(5).rposition(|window| window == b"admin").expect("the operator");
    flipped[at] ^= 1;
    for (content, expected) in [
        (flipped, "its checksums do not match"),
        (whole[..whole.len() / 2].to_vec(), "it is no store, or part of it is missing"),
        (b"anything".to_vec(), "it is no store, or part of it is missing"),
    ] {
        std::fs::write(&damaged, content).expect("written");
        refused(data.path(), &["restore", "--replace", text(&damaged)], expected).await;
    }
    refused(empty.path(), &["restore", text(&file)], "secret is missing").await;
    std::fs::write(empty.path().join("secret"), "another root secret of 32 bytes or more").expect("written");
    refused(empty.path(), &["restore", text(&file)], "the store belongs to another root secret").await;
    refused(empty.path(), &["restore", text(&copies.path().join("none"))], "none: No such file").await;
    let server = start(data.path()).await;
    assert_eq!(server.verdict(&keys[0].1).await, "VALID", "the store is as it was");
    assert!(is_signed_in(&server, &token).await);
    server.stop().await;
}

#[tokio::test]
async fn a_restore_keeps_the_store_that_it_replaces() {
    let (data, copies, third) = (directory(), directory(), directory());
    let server = start(data.path()).await;
    let token = server.sign_in("admin", PASSWORD).await;
    let file = copies.path().join("backup");
    assert_eq!(keymark(data.path(), &["backup", text(&file)]).await.0, 0);
    let keys = create_keys(&server, &token, 1).await;
    server.stop().await;

    let (code, said, log) = keymark(data.path(), &["restore", "--replace", text(&file)]).await;
    assert_eq!(code, 0, "{log}");
    let kept = said.lines().find_map(|line| line.strip_prefix("The store that was there is ")).expect("its path");
    assert!(kept.starts_with(&format!("{}/keymark.redb.replaced-", data.path().display())), "{kept}");
    assert!(said.contains("which had ") && said.contains("entries or more"), "the checkpoints are excused: {said}");
    let server = start(data.path()).await;
    assert_eq!(server.verdict(&keys[0].1).await, "NOT_FOUND");
    assert!(!is_signed_in(&server, &token).await);
    server.stop().await;

    std::fs::copy(kept, third.path().join("keymark.redb")).expect("copied");
    std::fs::copy(data.path().join("secret"), third.path().join("secret")).expect("copied");
    let server = start(third.path()).await;
    assert_eq!(server.verdict(&keys[0].1).await, "VALID");
    server.stop().await;
}

#[tokio::test]
async fn backup_and_restore_name_the_tools_of_mongodb() {
    let options = mongod::fresh_database().await;
    let variables = [
        ("KEYMARK_MONGODB_URI", options.uri.as_str()),
        ("KEYMARK_SECRET", "a root secret of 32 bytes or more, for all instances"),
    ];
    let (code, _, said) = run(&variables, &["backup", "file"]).await;
    assert!(code == 2 && said.contains("mongodump --oplog"), "{said}");
    let (code, _, said) = run(&variables, &["restore", "file"]).await;
    assert!(code == 2 && said.contains("mongorestore") && said.contains("`keymark restored`"), "{said}");
}
