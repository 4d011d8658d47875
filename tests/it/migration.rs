//! `keymark migrate`.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use keymark::app::{Target, migrate};
use keymark::clock::Environment;
use keymark::config::StoreConfig;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use keymark::store::mongo::{MongoOptions, MongoStore};
use keymark::store::{Record, RecordKind, SettingsStore, TransferStore};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::backups::enlarge;
use crate::support::gateways::{self, Changes, Echo, Gateway, Listening, Program, free_address};
use crate::support::process::{PROGRAM, Server, directory, keymark, on_disk_of, run};
use crate::support::{mongod, within};

const PASSWORD: &str = "a passphrase for the tests";
const SYSTEMS: &str = "query ($after: String) {
    systems(first: 2, after: $after) { totalCount nodes { name lastUsedAt } pageInfo { endCursor } }
}";
const AUDIT: &str =
    "query ($after: String) { auditLog(first: 2, after: $after) { nodes { number } pageInfo { endCursor } } }";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What a client has from a server, to compare it with another one's.
struct Client {
    token: String,
    keys: Vec<String>,
    systems_after: Json,
    audit_after: Json,
}

impl Client {
    /// Fills a store: three systems, of which the keys of one are revoked, and a token.
    async fn of(server: &Server) -> Self {
        let token = server.sign_in("admin", PASSWORD).await;
        let ask = async |document: &str, variables: Json| {
            let answer = server.graphql(Some(&token), document, variables).await;
            assert!(answer["errors"].is_null(), "{answer}");
            answer["data"].clone()
        };
        let mut keys = Vec::new();
        for name in ["Alpha", "Beta", "Gamma"] {
            let create = "mutation ($n: String!) { createSystem(name: $n) { system { id } } }";
            let id = json!({ "id": ask(create, json!({ "n": name })).await["createSystem"]["system"]["id"] });
            let generated = ask("mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }", id.clone()).await;
            keys.push(generated["generateKey"]["apiKey"].as_str().expect("a key").to_owned());
            assert_eq!(server.verdict(&keys[keys.len() - 1]).await, "VALID");
            if name == "Gamma" {
                ask("mutation ($id: ID!) { revokeKey(systemId: $id) { system { id } } }", id.clone()).await;
            }
            let external =
                "mutation ($id: ID!, $e: String) { setExternalId(systemId: $id, externalId: $e) { system { id } } }";
            ask(external, json!({ "id": id["id"], "e": format!("cus_{name}") })).await;
        }
        let create = "mutation { createVerifierToken(input: { name: \"Gateway\" }) { token } }";
        server.graphql(Some(&token), create, json!({})).await;
        let systems = ask(SYSTEMS, json!({})).await;
        let audit = ask(AUDIT, json!({})).await;
        let after = |page: &Json| json!({ "after": page["pageInfo"]["endCursor"] });
        Self { keys, systems_after: after(&systems["systems"]), audit_after: after(&audit["auditLog"]), token }
    }

    /// What the server answers to this client, without what changes by itself.
    async fn observe(&self, server: &Server) -> Json {
        let mut verdicts = Vec::new();
        for key in &self.keys {
            verdicts.push(server.verdict(key).await);
        }
        let systems = server.graphql(Some(&self.token), SYSTEMS, self.systems_after.clone()).await;
        let audit = server.graphql(Some(&self.token), AUDIT, self.audit_after.clone()).await;
        let names = &systems["data"]["systems"];
        json!([verdicts, names["totalCount"], names["nodes"][0]["name"], audit["data"]["auditLog"]["nodes"]])
    }
}

#[tokio::test]
async fn everything_moves_to_mongodb_and_back() {
    let (data, back) = (directory(), directory());
    let options = mongod::fresh_database().await;
    let admin = ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
    let server = Server::start_with(data.path(), &[admin], &[]).await;
    let client = Client::of(&server).await;
    let expected = client.observe(&server).await;
    assert_eq!(expected[0], json!(["VALID", "VALID", "REVOKED"]));
    assert_eq!((&expected[1], &expected[2]), (&json!(3), &json!("Gamma")));

    let on_embedded = [("KEYMARK_DATA_DIR", text(data.path()))];
    let to_mongodb = ["migrate", "--to-mongodb", options.uri.as_str(), "--to-database", options.database.as_str()];
    let (code, _, said) = run(&on_embedded, &to_mongodb).await;
    assert!(code == 1 && said.contains(&format!("process {} is using it", server.id())), "{said}");
    server.stop().await;
    let (code, said, log) = run(&on_embedded, &to_mongodb).await;
    assert_eq!(code, 0, "{log}");
    let counts: Vec<_> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["systems 3 3", "keys 3 3", "tenants 1 1", "operators 1 1", "sessions 1 1", "last uses 3 3"] {
        assert!(counts.iter().any(|found| found == line), "{said}");
    }
    assert!(said.contains("The hash chains of all audit logs are intact."), "{said}");
    let secret = data.path().join("secret");
    assert!(said.ends_with(&format!("KEYMARK_SECRET_FILE={}\n", secret.display())), "{said}");
    assert!(log.contains("systems: 3\n"), "{log}");

    let (code, _, said) = run(&on_embedded, &to_mongodb).await;
    assert!(code == 1 && said.contains(&format!("The database {} is not empty", options.database)), "{said}");

    let on_mongodb = [
        ("KEYMARK_MONGODB_URI", options.uri.as_str()),
        ("KEYMARK_MONGODB_DATABASE", options.database.as_str()),
        ("KEYMARK_SECRET_FILE", text(&secret)),
    ];
    let start = async || {
        let mut command = keymark();
        command.envs(on_mongodb);
        Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    };
    let server = start().await;
    assert_eq!(client.observe(&server).await, expected, "keys, the session and cursors are as before");
    let to_embedded = ["migrate", "--to-embedded", text(back.path())];
    let (code, _, said) = run(&on_mongodb, &to_embedded).await;
    assert!(code == 1 && said.contains(" is running; stop all instances first"), "{said}");
    server.stop().await;
    let (code, _, said) = run(&on_mongodb, &["audit", "verify"]).await;
    assert_eq!(code, 0, "{said}");

    let (code, said, log) = run(&on_mongodb, &to_embedded).await;
    assert!(code == 0 && said.contains("The target needs the same root secret."), "{said}{log}");
    let (code, _, said) = run(&on_mongodb, &to_embedded).await;
    assert!(code == 1 && said.contains("it contains a store; choose an empty directory"), "{said}");
    let variables = [("KEYMARK_SECRET_FILE", text(&secret))];
    let server = Server::start_with(back.path(), &variables, &[]).await;
    assert_eq!(client.observe(&server).await, expected);
    server.stop().await;
    let on_copy = [("KEYMARK_DATA_DIR", text(back.path())), variables[0]];
    let (code, said, _) = run(&on_copy, &["audit", "verify"]).await;
    assert!(code == 0 && said.contains("the chain is intact"), "{said}");
}

#[tokio::test]
async fn keys_have_the_same_verdicts_through_a_running_gateway_after_each_move() {
    let (data, back) = (directory(), directory());
    let options = mongod::fresh_database().await;
    let address = free_address();
    let start = async |variables: &[(&str, &str)]| {
        let mut command = keymark();
        command.envs(variables.iter().copied());
        let server = Server::run_at(command, &address.to_string()).await;
        let mut server = server.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
        server.wait_for("serving").await;
        server
    };
    let on_embedded = [("KEYMARK_DATA_DIR", text(data.path()))];
    let server = start(&[on_embedded[0], ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)]).await;
    let client = Client::of(&server).await;
    let change = async |document: &str, id: &Json| {
        let answer = server.graphql(Some(&client.token), document, json!({ "id": id })).await;
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"]["rotateKey"]["apiKey"].as_str().unwrap_or_default().to_owned()
    };
    let rotate = "mutation ($id: ID!) { rotateKey(systemId: $id) { apiKey } }";
    let (rotated, retiring) = server.generate_key(&client.token, "Rotated").await;
    let current = change(rotate, &rotated).await;
    let (ended, ended_retiring) = server.generate_key(&client.token, "Revoked while one retires").await;
    let ended_current = change(rotate, &ended).await;
    change("mutation ($id: ID!) { revokeKey(systemId: $id) { system { id } } }", &ended).await;
    let (deleted, deleted_key) = server.generate_key(&client.token, "Deleted").await;
    change("mutation ($id: ID!) { deleteSystem(id: $id) { deletedSystemId } }", &deleted).await;
    let [alpha, beta, gamma] = <[String; 3]>::try_from(client.keys.clone()).expect("three systems");
    let good = [alpha, beta, retiring, current];
    let bad = [gamma, ended_retiring, ended_current, deleted_key];

    let api = Listening::start(Echo::default().routes()).await;
    let gateway = Gateway::start(Program::Nginx, address, api.address, Changes::default()).await;
    let requests = gateways::Client::of(&gateway);
    let verify = async |is_up: bool| {
        for (keys, status) in [(&good, 200), (&bad, 401)] {
            for key in keys {
                let expected = if is_up { status } else { 503 };
                assert_eq!(requests.get(&[("x-api-key", key)]).await.status, expected);
            }
        }
    };
    verify(true).await;
    let expected = client.observe(&server).await;
    server.stop().await;
    verify(false).await;

    let to_mongodb = ["migrate", "--to-mongodb", options.uri.as_str(), "--to-database", options.database.as_str()];
    let (code, _, log) = run(&on_embedded, &to_mongodb).await;
    assert_eq!(code, 0, "{log}");
    let secret = data.path().join("secret");
    let secret = ("KEYMARK_SECRET_FILE", text(&secret));
    let on_mongodb = [
        ("KEYMARK_MONGODB_URI", options.uri.as_str()),
        ("KEYMARK_MONGODB_DATABASE", options.database.as_str()),
        secret,
    ];
    let server = start(&on_mongodb).await;
    verify(true).await;
    assert_eq!(client.observe(&server).await, expected);
    server.stop().await;
    let (code, said, log) = run(&on_mongodb, &["audit", "verify"]).await;
    assert!(code == 0 && said.contains("the chain is intact"), "{said}{log}");

    let (code, _, log) = run(&on_mongodb, &["migrate", "--to-embedded", text(back.path())]).await;
    assert_eq!(code, 0, "{log}");
    let on_copy = [("KEYMARK_DATA_DIR", text(back.path())), secret];
    let server = start(&on_copy).await;
    verify(true).await;
    assert_eq!(client.observe(&server).await, expected);
    server.stop().await;
    let (code, said, log) = run(&on_copy, &["audit", "verify"]).await;
    assert!(code == 0 && said.contains("the chain is intact"), "{said}{log}");
}

#[tokio::test]
async fn a_move_that_fills_the_disk_leaves_nothing_there() {
    let (data, target) = (directory(), directory());
    Server::start_with(data.path(), &[("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)], &[]).await.stop().await;
    enlarge(data.path()).await;
    let mut command = on_disk_of("8m", target.path());
    // The disk is gone with its processes.
    let list = "\"$1\" migrate --to-embedded \"$0\"; code=$?; ls -A \"$0\"; exit $code";
    command.args(["sh", "-c", list]).arg(target.path()).arg(PROGRAM).env("KEYMARK_DATA_DIR", data.path());
    let output = within(command.output()).await.expect("the binary runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let refused = format!("--to-embedded: {}: the disk of the store is full: ", target.path().display());
    assert!(said.contains(&refused), "{said}");
    assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), "", "no file is left");
}

/// Opens a copy of the store in this directory: a store that was dropped closes its file a moment later.
fn open_copy(directory: &Path) -> (EmbeddedStore, TempDir) {
    let copy = TempDir::new().expect("a directory");
    std::fs::copy(directory.join(FILE_NAME), copy.path().join(FILE_NAME)).expect("copied");
    (EmbeddedStore::open(copy.path()).expect("a store"), copy)
}

/// All records of a store, by kind, in an order of their own.
async fn records(store: &dyn TransferStore) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for kind in RecordKind::ALL {
        let records = store.read_records(kind).await.expect("records").map_ok(canonical);
        let mut records: Vec<String> = records.try_collect().await.expect("records");
        records.sort();
        all.push(records);
    }
    all
}

/// The same text for the same record: maps and lists of counts have no order.
fn canonical(record: Record) -> String {
    match record {
        Record::Usage(tenant, summary) => {
            let mut keys: Vec<_> = summary.keys.iter().map(|key| format!("{key:?}")).collect();
            keys.sort();
            let (system, written, used) = (summary.system, summary.written_at, summary.last_used_at);
            format!("{tenant} {system} {written:?} {used:?} {keys:?}")
        }
        Record::Series { tenant, system, resolution, row, counts } => {
            let mut counts: Vec<_> = counts.iter().map(|count| format!("{count:?}")).collect();
            counts.sort();
            format!("{tenant} {system} {resolution:?} {row} {counts:?}")
        }
        record => format!("{record:?}"),
    }
}

#[tokio::test]
async fn each_record_is_the_same_after_a_move_to_mongodb_and_back() {
    let (data, back) = (directory(), directory());
    let options = mongod::fresh_database().await;
    let server = Server::start_with(data.path(), &[("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)], &[]).await;
    Client::of(&server).await;
    server.stop().await;
    let embedded = |directory: &Path| StoreConfig::Embedded { directory: directory.to_owned(), cache_bytes: 4 << 20 };
    let mongo = || StoreConfig::Mongo { uri: options.uri.clone().into(), database: options.database.clone() };
    let before = records(&open_copy(data.path()).0).await;
    let empty: Vec<_> = RecordKind::ALL.iter().zip(&before).filter(|(_, found)| found.is_empty()).collect();
    assert!(empty.iter().all(|(kind, _)| matches!(kind, RecordKind::Markers | RecordKind::Tokens)), "{empty:?}");

    let to = Target::Mongo { uri: options.uri.clone().into(), database: options.database.clone() };
    within(migrate(&embedded(data.path()), to, &mut |_, _, _| {})).await.expect("moved");
    let store = MongoStore::connect(&options, Environment::system()).await.expect("a store");
    assert_eq!(records(&store).await, before);
    let to = Target::Embedded { directory: back.path().to_owned() };
    within(migrate(&mongo(), to, &mut |_, _, _| {})).await.expect("moved");
    assert_eq!(records(&open_copy(back.path()).0).await, before);
}

/// Begins to move the settings of a store to MongoDB, as a migration does that is interrupted.
async fn interrupted(data: &Path, options: &MongoOptions) {
    let (from, _directory) = open_copy(data);
    let fingerprint = from.find_setting("secret-fingerprint").await.expect("settings").expect("a fingerprint");
    let source = format!("{} (root secret {fingerprint})", data.display());
    let to = MongoStore::connect_empty(options, Environment::system(), &source).await.expect("empty");
    for kind in [RecordKind::Settings, RecordKind::Operators] {
        let records: Vec<_> = from.read_records(kind).await.expect("records").collect().await;
        let records = records.into_iter().map(|record| record.expect("a record")).collect();
        to.write_records(kind, records).await.expect("written");
    }
}

#[tokio::test]
async fn an_interrupted_move_is_not_served_and_begun_anew_from_the_same_source_alone() {
    let (data, other) = (directory(), directory());
    let options = mongod::fresh_database().await;
    let admin = ("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
    for directory in [&data, &other] {
        Server::start_with(directory.path(), &[admin], &[]).await.stop().await;
    }
    interrupted(data.path(), &options).await;

    let secret = data.path().join("secret");
    let on_mongodb = [
        ("KEYMARK_MONGODB_URI", options.uri.as_str()),
        ("KEYMARK_MONGODB_DATABASE", options.database.as_str()),
        ("KEYMARK_SECRET_FILE", text(&secret)),
    ];
    let unfinished = format!("A migration from {} (root secret ", data.path().display());
    let (code, _, said) = run(&on_mongodb, &["serve"]).await;
    assert!(code == 1 && said.contains(&unfinished) && said.contains("was not finished: run it again"), "{said}");
    let to_mongodb = ["migrate", "--to-mongodb", options.uri.as_str(), "--to-database", options.database.as_str()];
    let (code, _, said) = run(&[("KEYMARK_DATA_DIR", text(other.path()))], &to_mongodb).await;
    assert!(code == 1 && said.contains(&unfinished), "{said}");

    let (code, said, log) = run(&[("KEYMARK_DATA_DIR", text(data.path()))], &to_mongodb).await;
    assert_eq!(code, 0, "{said}{log}");
    let (code, said, _) = run(&on_mongodb, &["operator", "list"]).await;
    assert!(code == 0 && said.starts_with("admin\t"), "{said}");

    let target = other.path().join("new");
    std::fs::create_dir_all(target.join("migration")).expect("created");
    std::fs::write(target.join("migration").join("keymark.redb"), "part of a store").expect("written");
    let (code, said, log) = run(&on_mongodb, &["migrate", "--to-embedded", text(&target)]).await;
    assert_eq!(code, 0, "{said}{log}");
    assert!(target.join("keymark.redb").exists() && !target.join("migration").exists());
}
