//! Secrets stay where they belong: canaries go through every endpoint, and then everything that is kept is searched.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde_json::{Value as Json, json};

use crate::support::mongod;
use crate::support::process::{Server, keymark};

const PASSWORD: &str = "canary-password-4f1c0a";
const NEW_PASSWORD: &str = "canary-new-password-77aa";
const ROOT_SECRET: &str = "canary-root-secret-0123456789abcdef-0123456789";
const VERIFIER_TOKEN: &str = "canary-verifier-token-5522";

/// Every way in which a secret could be written down.
fn spellings(secret: &str) -> Vec<String> {
    let hex = hex::encode(secret);
    let mut spellings = vec![secret.to_owned(), hex.to_uppercase(), hex];
    // In base64 a text looks differently at each of three offsets; the characters at its borders depend on others.
    for offset in 0..3 {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode([&vec![0; offset], secret.as_bytes()].concat());
            let start = [0, 2, 3][offset];
            spellings.push(encoded[start..encoded.len() - 3].to_owned());
        }
    }
    spellings
}

fn assert_absent(secrets: &[(&str, &str)], place: &str, kept: &[u8]) {
    for (what, secret) in secrets {
        for spelling in spellings(secret) {
            let found = kept.windows(spelling.len()).any(|window| window == spelling.as_bytes());
            assert!(!found, "the {what} is in {place}, as {spelling}");
        }
    }
}

/// What went through a server, and what it answered.
struct Traffic {
    key: String,
    second_key: String,
    /// Session tokens, and the secrets in them.
    tokens: Vec<String>,
    answers: Vec<String>,
}

impl Traffic {
    fn secrets(&self) -> Vec<(&str, &str)> {
        let mut secrets = vec![
            ("key", self.key.as_str()),
            ("revoked key", &self.second_key),
            ("password", PASSWORD),
            ("new password", NEW_PASSWORD),
            ("root secret", ROOT_SECRET),
            ("verifier token", VERIFIER_TOKEN),
        ];
        secrets.extend(self.tokens.iter().map(|token| ("session token", token.as_str())));
        secrets
    }
}

/// Sends the secrets everywhere they can be sent to, rightly and wrongly.
async fn exercise(server: &Server) -> Traffic {
    let mut answers = Vec::new();
    let mut ask = async |token: Option<&str>, document: &str, variables: Json| {
        let answer = server.graphql(token, document, variables).await;
        answers.push(answer.to_string());
        answer
    };
    let text = |answer: &Json, pointer: &str| {
        answer.pointer(pointer).and_then(Json::as_str).unwrap_or_else(|| panic!("{pointer} in {answer}")).to_owned()
    };
    let sign_in = "mutation ($u: String!, $p: String!) { signIn(username: $u, password: $p) { token } }";
    let signed_in = ask(None, sign_in, json!({ "u": "admin", "p": PASSWORD })).await;
    let old_token = text(&signed_in, "/data/signIn/token");
    let change =
        "mutation ($c: String!, $n: String!) { changePassword(currentPassword: $c, newPassword: $n) { token } }";
    let changed = ask(Some(&old_token), change, json!({ "c": PASSWORD, "n": NEW_PASSWORD })).await;
    let new_token = text(&changed, "/data/changePassword/token");
    let token = Some(new_token.as_str());

    let create = "mutation ($n: String!) { createSystem(name: $n) { system { id } } }";
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let mut keys = Vec::new();
    for name in ["Billing", "Payroll"] {
        let id = text(&ask(token, create, json!({ "n": name })).await, "/data/createSystem/system/id");
        keys.push((text(&ask(token, generate, json!({ "id": id })).await, "/data/generateKey/apiKey"), id));
    }
    let (key, second_key) = (keys[0].0.clone(), keys[1].0.clone());
    let revoke = "mutation ($id: ID!) { revokeKey(systemId: $id) { system { keyMark } } }";
    ask(token, revoke, json!({ "id": keys[1].1 })).await;

    // Every secret where it does not belong, in variables and in documents that are wrong.
    for secret in [&key, &second_key, PASSWORD, NEW_PASSWORD, &old_token] {
        for (document, variables) in [
            (sign_in, json!({ "u": secret, "p": secret })),
            (sign_in, json!({ "u": "admin", "p": format!("{secret}x") })),
            (revoke, json!({ "id": secret })),
            (generate, json!({ "id": secret })),
            ("query ($s: String) { systems(search: $s) { nodes { id } } }", json!({ "s": secret })),
            ("query ($s: String) { systems(after: $s) { nodes { id } } }", json!({ "s": secret })),
            ("query ($s: ID!) { node(id: $s) { id } system(id: $s) { id } }", json!({ "s": secret })),
            ("query ($s: Int) { systems(first: $s) { nodes { id } } }", json!({ "s": secret })),
        ] {
            ask(token, document, variables.clone()).await;
            ask(None, document, variables).await;
        }
        ask(Some(secret), "{ viewer { username } }", json!({})).await;
    }
    ask(token, change, json!({ "c": "wrong", "n": PASSWORD })).await;
    let whole = "{ viewer { username } systems { nodes { id name keyState keyMark } }
        auditLog(first: 200) { nodes { id action systemName keyMark hash requestId actor { name } } } }";
    ask(token, whole, json!({})).await;

    let client = &server.client;
    let get = |address: String| client.get(address);
    for presented in [&key, &second_key, &format!("{key}x"), PASSWORD] {
        let body = json!({ "apiKey": presented }).to_string();
        let forward = format!("{}/v1/forward-auth/path?key={presented}", server.verification);
        for request in [
            client.post(format!("{}/v1/verify", server.verification)).body(body.clone()),
            client.post(format!("{}/v1/verify", server.verification)).body(format!("{body}}}")),
            get(forward.clone()).header("x-api-key", presented),
            get(forward.clone()).bearer_auth(presented),
            get(format!("{}/{presented}", server.public)),
            get(format!("{}/graphql?query={presented}", server.public)).bearer_auth(presented),
            get(format!("{}/audit/export?format={presented}", server.public)).bearer_auth(&old_token),
            get(format!("{}/audit/export?format=csv", server.public)).bearer_auth(&new_token),
        ] {
            let request = request.header("x-keymark-verifier-token", VERIFIER_TOKEN);
            let response = request.send().await.expect("an answer");
            let headers = format!("{:?}", response.headers());
            answers.push(headers + &response.text().await.expect("text"));
        }
    }
    let metrics = get(format!("{}/metrics", server.verification)).header("x-keymark-verifier-token", VERIFIER_TOKEN);
    let metrics = metrics.send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("keymark_verifications_total"), "{metrics}");
    let mut tokens = vec![old_token, new_token.clone()];
    tokens.extend(tokens.clone().iter().map(|token| session_secret(token)));
    let traffic = Traffic { key, second_key, tokens, answers };
    assert_absent(&traffic.secrets(), "the metrics", metrics.as_bytes());
    traffic
}

/// What a token carries that nobody else may know.
fn session_secret(token: &str) -> String {
    let claims = token.split('.').nth(1).expect("a JWT has claims");
    let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
    claims["sid"].as_str().expect("a session").to_owned()
}

/// A secret is answered once: where it was made.
fn check_answers(traffic: &Traffic) {
    for key in [&traffic.key, &traffic.second_key] {
        let showing: Vec<_> = traffic.answers.iter().filter(|answer| answer.contains(key.as_str())).collect();
        assert!(showing.len() == 1 && showing[0].contains("generateKey"), "{showing:#?}");
    }
    for secret in [PASSWORD, NEW_PASSWORD, ROOT_SECRET, VERIFIER_TOKEN] {
        let showing: Vec<_> = traffic.answers.iter().filter(|answer| answer.contains(secret)).collect();
        assert!(showing.is_empty(), "{secret}: {showing:#?}");
    }
}

const SECRETS: [(&str, &str); 4] = [
    ("KEYMARK_SECRET", ROOT_SECRET),
    ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD),
    ("KEYMARK_VERIFIER_TOKEN", VERIFIER_TOKEN),
    ("KEYMARK_LOG", "trace"),
];

#[tokio::test]
async fn no_secret_is_logged_or_kept_by_the_embedded_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(directory.path(), &SECRETS, &[]).await;
    let traffic = exercise(&server).await;
    check_answers(&traffic);
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    assert!(log.contains("audit entry written"), "{log}");
    assert_absent(&traffic.secrets(), "the log", log.as_bytes());
    let mut files = 0;
    for (path, bytes) in files_of(directory.path()) {
        assert_absent(&traffic.secrets(), &path, &bytes);
        files += 1;
    }
    assert!(files > 0, "the store has files");
}

fn files_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(path).expect("read")))
        .collect()
}

#[tokio::test]
async fn no_secret_is_logged_or_kept_by_mongodb() {
    let options = mongod::fresh_database().await;
    let mut command = keymark();
    command.envs(SECRETS).env("KEYMARK_MONGODB_URI", &options.uri).env("KEYMARK_MONGODB_DATABASE", &options.database);
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let traffic = exercise(&server).await;
    check_answers(&traffic);
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    assert_absent(&traffic.secrets(), "the log", log.as_bytes());
    let database = mongod::shared().await.client().await.database(&options.database);
    let mut documents = 0;
    for collection in database.list_collection_names().await.expect("collections") {
        let found = database.collection::<Document>(&collection).find(doc! {}).await.expect("documents");
        for document in found.try_collect::<Vec<_>>().await.expect("documents") {
            assert_absent(&traffic.secrets(), &collection, &document.to_vec().expect("bytes"));
            documents += 1;
        }
    }
    assert!(documents > 10, "{documents}");
}

#[test]
fn the_search_finds_every_spelling() {
    let secret = "km_canary";
    for hidden in [
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("x{secret}y")),
        STANDARD.encode(format!("xx{secret}yy")),
        URL_SAFE_NO_PAD.encode(format!("xxx{secret}")),
        "6b6d5f63616e617279".to_owned(),
    ] {
        let found = std::panic::catch_unwind(|| assert_absent(&[("key", secret)], "a text", hidden.as_bytes()));
        assert!(found.is_err(), "{hidden}");
    }
}
