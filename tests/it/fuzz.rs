//! Arbitrary and slightly wrong input for everything that parses bytes of others. Nothing panics, nothing wrong is
//! accepted, and the server continues to serve.
//!
//! `PROPTEST_CASES` sets the number of cases of each test; `make torture` runs many.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use keymark::auth::tokens::Tokens;
use keymark::config::{Config, Flags};
use keymark::domain::audit::AuditHead;
use keymark::domain::changes::StoredRow;
use keymark::domain::cursors;
use keymark::domain::ids::SystemId;
use keymark::domain::keys::{ApiKey, PresentedKey};
use keymark::domain::secrets::Keyring;
use keymark::domain::sessions::{Session, SessionSecret};
use keymark::domain::system_lists::ListOrder;
use keymark::domain::systems::{SortValue, SystemSortKey};
use keymark::domain::time::Timestamp;
use keymark::domain::tokens::PresentedToken;
use keymark::store::ScanStore;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use mongodb::bson::{Bson, Document, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::{ReadableTable, TableDefinition};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::contract::fixtures::tenant;
use crate::contract::keys::with_key;
use crate::contract::operators::{added, signed_in};
use crate::support::actors::{App, SECRET, root_secret};
use crate::support::process::directory;
use crate::support::sockets::Socket;
use crate::support::within;

/// Runs the test for each generated value. Cases that need a server share it, and the test's runtime.
pub fn for_each<S: Strategy>(cases: u32, strategy: &S, test: impl AsyncFn(S::Value)) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    // The variable sets the number of cases of a fast test; slower ones run a part of them.
    let cases = config.cases * cases / 256;
    let mut runner = TestRunner::new(ProptestConfig { cases: cases.max(1), ..config });
    let runtime = tokio::runtime::Handle::current();
    let run = |value| {
        tokio::task::block_in_place(|| runtime.block_on(test(value)));
        Ok(())
    };
    runner.run(strategy, run).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A change of one place of a text.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, char),
    Insert(Index, char),
    Remove(Index),
    Truncate(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let character = || prop_oneof![9 => any::<char>(), 1 => proptest::char::range('!', '~')];
    prop_oneof![
        (any::<Index>(), character()).prop_map(|(at, new)| Edit::Replace(at, new)),
        (any::<Index>(), character()).prop_map(|(at, new)| Edit::Insert(at, new)),
        any::<Index>().prop_map(Edit::Remove),
        any::<Index>().prop_map(Edit::Truncate),
    ]
}

impl Edit {
    fn apply(&self, text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        let length = characters.len();
        match self {
            Self::Replace(at, new) => characters[at.index(length)] = *new,
            Self::Insert(at, new) => characters.insert(at.index(length + 1), *new),
            Self::Remove(at) => drop(characters.remove(at.index(length))),
            Self::Truncate(at) => characters.truncate(at.index(length)),
        }
        characters.into_iter().collect()
    }
}

fn keyring() -> Keyring {
    Keyring::new(&root_secret(SECRET), &[])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn presented_key_is_accepted_only_as_it_was_generated(seed: u64, edit in edit(), text in "\\PC{0,120}") {
        let key = ApiKey::generate(&"km".parse().unwrap(), &mut StdRng::seed_from_u64(seed));
        prop_assert!(PresentedKey::parse(key.expose()).is_ok());
        let edited = edit.apply(key.expose());
        // The checksum covers the prefix too. It misses one edit in 2^32.
        prop_assert_eq!(PresentedKey::parse(&edited).is_ok(), edited == key.expose());
        prop_assert!(PresentedKey::parse(&text).is_err());
    }

    #[test]
    fn cursor_is_accepted_only_as_it_was_encoded(seed: u64, name in "\\PC{1,40}", number: u64, edit in edit(), text in "\\PC{0,200}") {
        let (keys, tenant, order) = (keyring(), "acme".parse().unwrap(), ListOrder::default());
        let id = SystemId::new(Timestamp::from_millis(0), &mut StdRng::seed_from_u64(seed));
        let key = SystemSortKey { value: SortValue::Name(name), id };
        let system = cursors::encode_system(&keys, &tenant, order, key.clone());
        prop_assert_eq!(cursors::decode_system(&keys, &tenant, order, &system).ok(), Some(key));
        let edited = edit.apply(&system);
        prop_assert_eq!(cursors::decode_system(&keys, &tenant, order, &edited).is_ok(), edited == system);
        let entry = AuditHead { number, ..AuditHead::default() };
        let audit = cursors::encode_audit(&keys, &tenant, &entry);
        prop_assert!(cursors::decode_audit(&keys, &tenant, &audit).is_ok_and(|position| position.is_of(&entry)));
        let edited = edit.apply(&audit);
        prop_assert_eq!(cursors::decode_audit(&keys, &tenant, &edited).is_ok(), edited == audit);
        prop_assert!(cursors::decode_audit(&keys, &tenant, &system).is_err());
        prop_assert!(cursors::decode_audit(&keys, &tenant, &text).is_err());
    }

    #[test]
    fn token_is_accepted_only_as_it_was_issued(seed: u64, edit in edit(), text in "\\PC{0,300}") {
        let tokens = Tokens::new(&keyring());
        let mut rng = StdRng::seed_from_u64(seed);
        let secret = SessionSecret::generate(&mut rng);
        let at = Timestamp::from_millis(1_700_000_000_000);
        let operator = keymark::domain::ids::OperatorId::new(at, &mut rng);
        let tenant = "acme".parse().unwrap();
        let session = Session { id: secret.id(), tenant, operator, password_version: 1, created_at: at, expires_at: at, network: None, user_agent: None };
        let token = tokens.issue(&session, &secret);
        let edited = edit.apply(&token);
        prop_assert_eq!(tokens.read(&edited).is_some(), edited == token, "{}", edited);
        prop_assert_eq!(tokens.read(&token).map(|reference| reference.operator), Some(operator));
        prop_assert!(tokens.read(&text).is_none());
    }

    #[test]
    fn presented_token_is_accepted_only_as_it_was_issued(seed: u64, edit in edit(), text in "(km[tv]_)?\\PC{0,300}") {
        for (prefix, other) in [("kmt", "kmv"), ("kmv", "kmt")] {
            let parse = |presented: &str| match prefix {
                "kmt" => PresentedToken::parse_service(presented).is_ok(),
                _ => PresentedToken::parse_verifier(presented).is_ok(),
            };
            let mut rng = StdRng::seed_from_u64(seed);
            let token = ApiKey::generate(&prefix.parse().unwrap(), &mut rng);
            prop_assert!(parse(token.expose()));
            let edited = edit.apply(token.expose());
            prop_assert_eq!(parse(&edited), edited == token.expose());
            prop_assert!(!parse(ApiKey::generate(&other.parse().unwrap(), &mut rng).expose()));
            prop_assert!(!parse(&text));
            let debugged = format!("{token:?}");
            prop_assert!(!debugged.contains(&token.expose()[4..]));
        }
    }

    #[test]
    fn configuration_file_is_read_or_refused_in_one_line(text in config_file()) {
        let directory = directory();
        let path = directory.path().join("keymark.toml");
        std::fs::write(&path, &text).unwrap();
        if let Err(error) = Config::load(Flags::default(), Some(&path), |_| None) {
            prop_assert_eq!(error.to_string().trim().lines().count(), 1, "{}", error);
        }
    }
}

fn config_file() -> impl Strategy<Value = String> {
    let name = select(vec![
        "listen",
        "lease",
        "probe-interval",
        "log",
        "trusted-proxies",
        "data-dir",
        "key-prefix",
        "unknown",
    ]);
    let value = prop_oneof![
        "\\PC{0,30}".prop_map(|text| format!("{text:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        select(vec!["true", "[]", "{}", "\"\"", "\"12s\"", "\"127.0.0.1:0\"", "1e999", "'''"]).prop_map(str::to_owned),
    ];
    let line = prop_oneof![
        4 => (name, value).prop_map(|(name, value)| format!("{name} = {value}")),
        1 => "\\PC{0,60}",
    ];
    vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,40}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![Just("authorization".to_owned()), "\\PC{0,12}"];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            vec((name, inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_init_is_acknowledged_or_the_socket_closed() {
    let app = App::embedded().await;
    let address = app.listen().await;
    for_each(64, &any_json(), async |payload| {
        let mut socket = Socket::open(address, &[], payload.clone()).await;
        if let Err(code) = socket.acknowledged().await {
            assert!([4400, 4403].contains(&code), "{code} for {payload}");
        }
    });
    assert_eq!(Socket::open(address, &[], json!({})).await.acknowledged().await, Err(4403));
}

/// Requests of the verification listener, and the status of each response.
fn requests(key: &str) -> Vec<(String, u16)> {
    let verify = |body: &str, status| {
        let length = body.len();
        (format!("POST /v1/verify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"), status)
    };
    let get =
        |path: &str, header: &str, status| (format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"), status);
    vec![
        verify(&json!({ "apiKey": key }).to_string(), 200),
        verify(r#"{"apiKey":"km_wrong"}"#, 200),
        verify("not JSON", 400),
        get("/v1/forward-auth", &format!("X-Api-Key: {key}\r\n"), 200),
        get("/v1/forward-auth/a/b?c", &format!("authorization: bearer {key}\r\n"), 200),
        get("/v1/forward-auth", "", 401),
        get("/nowhere", "", 404),
    ]
}

/// Reads responses until there are as many, or the server closes the connection. Returns their statuses.
async fn read_statuses(stream: &mut TcpStream, count: usize) -> Vec<u16> {
    let (mut received, mut statuses) = (Vec::new(), Vec::new());
    while statuses.len() < count {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = response.parse(&received) {
            let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length: usize = length.map_or(0, |length| std::str::from_utf8(length.value).unwrap().parse().unwrap());
            if received.len() >= head + length {
                statuses.push(response.code.expect("a complete head"));
                received.drain(..head + length);
                continue;
            }
        }
        let mut buffer = [0; 4096];
        match within(stream.read(&mut buffer)).await {
            Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_and_pipelined_requests_get_their_own_responses() {
    let app = App::embedded().await;
    let operator = app.operator(&["view", "create"]).await;
    let key = operator.generate_key(&operator.create_system("Billing").await.id).await.api_key;
    app.wait_for_cache().await;
    let (address, requests) = (app.listen_for_verifiers().await, requests(&key));
    let chosen = (vec(any::<Index>(), 1..8), vec(any::<Index>(), 0..6));
    for_each(64, &chosen, async |(chosen, splits)| {
        let chosen: Vec<_> = chosen.iter().map(|index| index.get(&requests)).collect();
        let text: String = chosen.iter().map(|(request, _)| request.as_str()).collect();
        let mut splits: Vec<_> = splits.iter().map(|split| split.index(text.len())).chain([0, text.len()]).collect();
        splits.sort_unstable();
        let mut stream = within(TcpStream::connect(address)).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        for part in splits.windows(2) {
            within(stream.write_all(&text.as_bytes()[part[0]..part[1]])).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let expected: Vec<_> = chosen.iter().map(|(_, status)| *status).collect();
        assert_eq!(read_statuses(&mut stream, chosen.len()).await, expected, "{text:?} split at {splits:?}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_end_only_their_own_connection() {
    let app = App::embedded().await;
    let operator = app.operator(&["view", "create"]).await;
    let key = operator.generate_key(&operator.create_system("Billing").await.id).await.api_key;
    app.wait_for_cache().await;
    let (verification, public, requests) = (app.listen_for_verifiers().await, app.listen().await, requests(&key));
    let bytes = prop_oneof![
        (any::<Index>(), vec(edit(), 1..4)).prop_map(|(index, edits)| (Some(index), edits, Vec::new())),
        vec(any::<u8>(), 0..300).prop_map(|bytes| (None, Vec::new(), bytes)),
    ];
    for_each(64, &bytes, async |(index, edits, bytes)| {
        let bytes = match index {
            Some(index) => {
                let request = edits.iter().fold(index.get(&requests).0.clone(), |text, edit| match text.as_str() {
                    "" => text,
                    text => edit.apply(text),
                });
                request.into_bytes()
            }
            None => bytes,
        };
        for address in [verification, public] {
            let mut stream = within(TcpStream::connect(address)).await.expect("connected");
            // The server may close the connection before it has received everything.
            let _ = within(stream.write_all(&bytes)).await;
            let _ = stream.shutdown().await;
            let statuses = read_statuses(&mut stream, usize::MAX).await;
            assert!(statuses.iter().all(|status| (200..500).contains(status)), "{statuses:?} for {bytes:?}");
        }
    });
    let (request, status) = &requests[0];
    let mut stream = within(TcpStream::connect(verification)).await.expect("connected");
    within(stream.write_all(request.as_bytes())).await.expect("sent");
    assert_eq!(read_statuses(&mut stream, 1).await, [*status]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_rows_are_read_or_refused() {
    let created = directory();
    let store = EmbeddedStore::open(created.path()).expect("a fresh store");
    let mut acme = tenant("acme");
    let (_, key) = with_key(&store, &mut acme, "Billing").await;
    let ada = added(&store, &mut acme, "ada").await;
    signed_in(&store, &mut acme, &ada).await;
    let changed = directory();
    let path = changed.path().join(FILE_NAME);
    let digest = *key.digest.as_bytes();
    std::fs::copy(created.path().join(FILE_NAME), &path).expect("copied");
    let table = TableDefinition::<&[u8; 32], &[u8]>::new("keys");
    let database = redb::Database::create(&path).expect("it exists");
    let row = {
        let txn = database.begin_write().unwrap();
        let keys = txn.open_table(table).unwrap();
        String::from_utf8(keys.get(&digest).unwrap().unwrap().value().to_vec()).unwrap()
    };
    drop(database);
    let bytes = prop_oneof![
        vec(edit(), 1..4).prop_map(move |edits| {
            edits.iter().fold(row.clone(), |row, edit| if row.is_empty() { row } else { edit.apply(&row) }).into_bytes()
        }),
        vec(any::<u8>(), 0..200),
    ];
    for_each(32, &bytes, async |bytes| {
        let directory = directory();
        std::fs::copy(&path, directory.path().join(FILE_NAME)).expect("copied");
        let database = redb::Database::create(directory.path().join(FILE_NAME)).expect("it exists");
        let txn = database.begin_write().unwrap();
        txn.open_table(table).unwrap().insert(&digest, bytes.as_slice()).unwrap();
        txn.commit().unwrap();
        drop(database);
        let store = EmbeddedStore::open(directory.path()).expect("opened");
        let rows = store.scan_rows().await.unwrap().try_collect::<Vec<StoredRow>>().await;
        match rows {
            Ok(rows) => assert_eq!(rows.len(), 3, "{rows:?}"),
            Err(error) => assert!(matches!(error, keymark::store::StoreError::NewerFormat { .. }), "{error}"),
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_read_or_refused() {
    let app = App::mongodb().await;
    let operator = app.operator(&["view", "create"]).await;
    operator.generate_key(&operator.create_system("Billing").await.id).await;
    let database = app.database().await;
    let mut originals = BTreeMap::new();
    for name in ["keys", "operators", "sessions"] {
        let stored = database.collection::<Document>(name).find_one(doc! {}).await.unwrap().expect("it exists");
        originals.insert(name, stored);
    }
    let value = prop_oneof![
        Just(Bson::Null),
        any::<i64>().prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        "\\PC{0,80}".prop_map(Bson::from),
        vec("\\PC{0,20}", 0..3).prop_map(Bson::from),
        Just(Bson::Document(doc! {})),
    ];
    let change = (select(vec!["keys", "operators", "sessions"]), any::<Index>(), proptest::option::of(value));
    for_each(64, &change, async |(name, member, value)| {
        let (collection, original) = (database.collection::<Document>(name), &originals[name]);
        let members: Vec<_> = original.keys().filter(|member| *member != "_id").cloned().collect();
        let mut changed = original.clone();
        let member = member.get(&members);
        match value {
            Some(value) => drop(changed.insert(member.clone(), value)),
            None => drop(changed.remove(member)),
        }
        let replace = collection.replace_one(doc! { "_id": original.get("_id") }, changed);
        replace.bypass_document_validation(true).await.unwrap();
        let rows = app.store.scan_rows().await.unwrap().try_collect::<Vec<StoredRow>>().await.unwrap();
        assert_eq!(rows.len(), 4, "{rows:?}");
        collection.replace_one(doc! { "_id": original.get("_id") }, original).await.unwrap();
    });
    let system = operator.create_system("The feed goes on").await;
    assert!(operator.find_system(&system.id).await.is_some());
    app.wait_for_cache().await;
}
