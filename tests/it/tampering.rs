//! An audit log that is changed behind Keymark's back, in the store: the verification names the first bad place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keymark::clock::{Environment, SystemStopwatch};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::Role;
use keymark::config::Config;
use keymark::domain::audit::{AuditAction, AuditActor, AuditEntry, AuditEvent, AuditHead, ChainBreak};
use keymark::domain::changes::Batch;
use keymark::domain::checkpoints::Checkpoint;
use keymark::domain::permissions::Permissions;
use keymark::domain::refusal::ErrorCode;
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::service::checkpoint_file::FILE_NAME;
use keymark::service::{Service, Settings};
use keymark::store::Store;
use keymark::store::embedded::{self, EmbeddedStore};
use keymark::store::mongo::{MongoOptions, MongoStore};
use mongodb::bson::{Bson, Document, doc, serialize_to_bson};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::contract::fixtures::{Tenant, tenant, tenant_id};
use crate::support::actors::SECRET;
use crate::support::mongod;

const AUDIT: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("audit");
const AUDIT_HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("audit_heads");
const SETTINGS: TableDefinition<&str, &str> = TableDefinition::new("settings");
const CHECKPOINT: &str = "audit-checkpoint/acme";

/// What a store contains of a tenant's log. The entries are by the numbers that the store finds them by.
#[derive(Clone, Debug, PartialEq)]
struct Contents {
    entries: Vec<(u64, Json)>,
    head: Json,
    checkpoint: Option<String>,
}

/// A store that Keymark and an attacker use in turn.
enum Place {
    /// A store is closed a little after it was dropped, so each turn gets a copy of the files.
    Embedded(Mutex<TempDir>),
    Mongo(MongoOptions, Arc<dyn Store>),
}

impl Place {
    async fn embedded() -> Self {
        Self::Embedded(Mutex::new(tempfile::tempdir().expect("a directory")))
    }

    async fn mongodb() -> Self {
        let options = mongod::fresh_database().await;
        let store = MongoStore::connect(&options, Environment::system()).await.expect("a database");
        Self::Mongo(options, Arc::new(store))
    }

    /// The directory for the next turn on the embedded store.
    fn next_directory(current: &Mutex<TempDir>) -> PathBuf {
        let mut current = current.lock().unwrap();
        let next = tempfile::tempdir().expect("a directory");
        for name in [embedded::FILE_NAME, FILE_NAME] {
            let file = current.path().join(name);
            if file.exists() {
                std::fs::copy(file, next.path().join(name)).expect("copied");
            }
        }
        *current = next;
        current.path().to_owned()
    }

    /// The directory of the last turn.
    fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Embedded(current) => Some(current.lock().unwrap().path().to_owned()),
            Self::Mongo(..) => None,
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(current) => Arc::new(EmbeddedStore::open(&Self::next_directory(current)).expect("a store")),
            Self::Mongo(_, store) => Arc::clone(store),
        }
    }

    fn service(&self) -> Arc<Service> {
        let settings = Config::default().service_settings(Role::Uncached, Duration::ZERO);
        let (store, environment) = (self.store(), Environment::system());
        let data_directory = self.directory();
        let keys = Keyring::new(&RootSecret::new(SECRET.as_bytes().to_vec()).unwrap(), &[]);
        let stopwatch = Arc::new(SystemStopwatch);
        let coherence = Coherence::new(Arc::clone(&store), environment.clone(), stopwatch, Role::Uncached);
        Service::new(store, coherence, environment, keys, Settings { data_directory, ..settings })
    }

    async fn verify(&self, archived: &[Checkpoint]) -> Result<u64, ChainBreak> {
        let service = self.service();
        let known = service.find_checkpoints(archived.to_vec()).await.expect("a store that responds");
        let verified = service.verify_audit(&tenant_id("acme"), &known).await.expect("a store that responds");
        verified.map(|log| log.entries)
    }

    async fn read(&self) -> Contents {
        match self {
            Self::Embedded(current) => {
                let path = Self::next_directory(current).join(embedded::FILE_NAME);
                let database = Database::open(path).expect("a file");
                let txn = database.begin_read().unwrap();
                let entries = txn.open_table(AUDIT).unwrap();
                let entries = entries.iter().unwrap().map(|row| {
                    let (key, entry) = row.unwrap();
                    (key.value().1, serde_json::from_slice(entry.value()).unwrap())
                });
                let head = txn.open_table(AUDIT_HEADS).unwrap().get("acme").unwrap().expect("a head");
                let checkpoint = txn.open_table(SETTINGS).unwrap().get(CHECKPOINT).unwrap();
                Contents {
                    entries: entries.collect(),
                    head: serde_json::from_slice(head.value()).unwrap(),
                    checkpoint: checkpoint.map(|text| text.value().to_owned()),
                }
            }
            Self::Mongo(_, store) => {
                let entries = store.list_audit_after(&tenant_id("acme"), 0, 100).await.unwrap();
                let head = store.audit_head(&tenant_id("acme")).await.unwrap();
                let checkpoint = store.find_setting(CHECKPOINT).await.unwrap();
                let json = |entry: &AuditEntry| serde_json::to_value(entry).unwrap();
                Contents {
                    entries: entries.iter().map(|entry| (entry.number, json(entry))).collect(),
                    head: serde_json::to_value(head).unwrap(),
                    checkpoint,
                }
            }
        }
    }

    async fn write(&self, contents: &Contents) {
        match self {
            Self::Embedded(current) => {
                let path = Self::next_directory(current).join(embedded::FILE_NAME);
                let database = Database::open(path).expect("a file");
                let txn = database.begin_write().unwrap();
                {
                    let mut audit = txn.open_table(AUDIT).unwrap();
                    audit.retain(|_, _| false).unwrap();
                    for (number, entry) in &contents.entries {
                        audit.insert(("acme", *number), serde_json::to_vec(entry).unwrap().as_slice()).unwrap();
                    }
                    let head = serde_json::to_vec(&contents.head).unwrap();
                    txn.open_table(AUDIT_HEADS).unwrap().insert("acme", head.as_slice()).unwrap();
                    let mut settings = txn.open_table(SETTINGS).unwrap();
                    match &contents.checkpoint {
                        Some(checkpoint) => settings.insert(CHECKPOINT, checkpoint.as_str()).unwrap().map(drop),
                        None => settings.remove(CHECKPOINT).unwrap().map(drop),
                    };
                }
                txn.commit().unwrap();
            }
            Self::Mongo(options, _) => {
                let database = mongod::shared().await.client().await.database(&options.database);
                let collection = |name| database.collection::<Document>(name);
                let (audit, tenants) = (collection("audit"), collection("tenants"));
                audit.delete_many(doc! {}).await.unwrap();
                let documents = contents.entries.iter().map(|(number, entry)| {
                    let mut document = doc! { "_id": format!("{number}") };
                    document.extend(document_of(entry));
                    document
                });
                let insert = audit.insert_many(documents.collect::<Vec<_>>());
                insert.bypass_document_validation(true).await.unwrap();
                let head = doc! { "$set": document_of(&contents.head) };
                let update = tenants.update_one(doc! { "_id": "acme" }, head);
                update.bypass_document_validation(true).await.unwrap();
                let id = doc! { "_id": format!("setting/{CHECKPOINT}") };
                match &contents.checkpoint {
                    Some(checkpoint) => {
                        let value = doc! { "$set": { "value": checkpoint } };
                        collection("meta").update_one(id, value).upsert(true).await.map(drop).unwrap();
                    }
                    None => collection("meta").delete_one(id).await.map(drop).unwrap(),
                }
            }
        }
    }
}

fn document_of(json: &Json) -> Document {
    fn bson(json: &Json) -> Bson {
        match json {
            Json::Number(number) => Bson::Int64(number.as_i64().expect("an integer")),
            Json::Object(_) => Bson::Document(document_of(json)),
            Json::Array(items) => Bson::Array(items.iter().map(bson).collect()),
            plain => serialize_to_bson(plain).expect("a plain value"),
        }
    }
    json.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), bson(value))).collect()
}

/// Writes a log of seven entries, in which each member of an event occurs, and signs its end.
async fn signed_log(place: &Place) -> (Tenant, Vec<Checkpoint>) {
    let mut acme = tenant("acme");
    let (ada, system) = (acme.operator("ada"), acme.system("Billing"));
    let create = acme.create(&system);
    let (keyed, _, generate) = acme.generate(&system);
    let (_, rename) = acme.rename(&system, "Invoices");
    let mut events = vec![create.event, generate.event.about_system(&keyed), rename.event.renamed_from("Billing")];
    events
        .push(acme.event(AuditAction::OperatorAdded).about_operator(&ada).with_permissions(Permissions::all_of(true)));
    events.push(acme.event(AuditAction::PermissionRefused).refused(ErrorCode::Forbidden, 3));
    events.push(acme.event(AuditAction::SignedIn));
    events.push(acme.event(AuditAction::SignedOut));
    events[4].actor = AuditActor::operator(&ada);
    events[5].source_address = Some([192, 0, 2, 7].into());
    append(place, &acme, events).await;
    let checkpoints = place.service().checkpoint_audit().await.expect("a store that responds");
    assert!(checkpoints.broken.is_empty() && checkpoints.newest.len() == 1);
    (acme, checkpoints.newest)
}

async fn append(place: &Place, tenant: &Tenant, events: Vec<AuditEvent>) {
    let store = place.store();
    for event in events {
        store.commit(Batch::new(tenant.id.clone(), event)).await.expect("committed");
    }
}

/// The number of the entry that a break names.
fn place_of(broken: ChainBreak) -> u64 {
    match broken {
        ChainBreak::Number { expected: number, .. }
        | ChainBreak::Hash { number }
        | ChainBreak::Unreadable { number }
        | ChainBreak::Tail { number, .. }
        | ChainBreak::Head { number }
        | ChainBreak::Checkpoint { number }
        | ChainBreak::Archived { number }
        | ChainBreak::Signature { number } => number,
    }
}

/// Changes each value within, one at a time, and removes each member of an object.
fn changes(value: &Json) -> Vec<Json> {
    match value {
        Json::Object(members) => {
            let mut changed = Vec::new();
            for (name, member) in members {
                for other in changes(member) {
                    changed.push(json!({ name: other }));
                }
                changed.push(json!({ name: null }));
            }
            let merge = |change: Json| {
                let mut copy = members.clone();
                for (name, other) in change.as_object().expect("an object") {
                    if other.is_null() {
                        copy.remove(name)
                    } else {
                        copy.insert(name.clone(), other.clone())
                    };
                }
                Json::Object(copy)
            };
            changed.into_iter().map(merge).collect()
        }
        Json::Array(items) => vec![items[1..].to_vec().into()],
        // No other entry has this number, so that a unique index does not get in the way.
        Json::Number(number) => vec![(number.as_i64().unwrap() + 100).into()],
        Json::String(text) => {
            let last = text.chars().next_back().unwrap();
            let other = if last == '0' { '1' } else { '0' };
            vec![format!("{}{other}", &text[..text.len() - last.len_utf8()]).into()]
        }
        other => panic!("{other}"),
    }
}

macro_rules! on_both {
    [$($case:ident),+ $(,)?] => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::$case(super::Place::embedded().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mongodb() {
                super::$case(super::Place::mongodb().await).await;
            }
        }
    )+};
}

on_both![
    change_of_any_member_of_any_entry_is_named,
    missing_and_exchanged_entries_are_named,
    cut_tail_is_named_as_long_as_one_witness_is_left,
    change_of_the_stored_head_is_named,
    unreadable_entry_of_a_checkpoint_is_named,
    log_that_was_written_anew_is_neither_accepted_nor_signed,
    checkpoint_of_another_key_is_named_and_replaced,
];

async fn change_of_any_member_of_any_entry_is_named(place: Place) {
    signed_log(&place).await;
    let intact = place.read().await;
    let mut count = 0;
    for at in 0..intact.entries.len() {
        for changed in changes(&intact.entries[at].1) {
            let mut contents = intact.clone();
            contents.entries[at].1 = changed;
            place.write(&contents).await;
            let broken = place.verify(&[]).await.expect_err("changed");
            assert_eq!(place_of(broken), at as u64 + 1, "{broken}: {}", contents.entries[at].1);
            count += 1;
        }
    }
    assert!(count > 150, "{count}");
    place.write(&intact).await;
    assert_eq!(place.verify(&[]).await, Ok(7));
}

async fn missing_and_exchanged_entries_are_named(place: Place) {
    signed_log(&place).await;
    let intact = place.read().await;
    for at in 0..intact.entries.len() {
        let number = at as u64 + 1;
        let mut missing = intact.clone();
        missing.entries.remove(at);
        place.write(&missing).await;
        let expected = if number == 7 {
            ChainBreak::Tail { number, written: 7 }
        } else {
            ChainBreak::Number { expected: number, found: number + 1 }
        };
        assert_eq!(place.verify(&[]).await, Err(expected));
        for other in at + 1..intact.entries.len() {
            // Each with the other's number, so that only the content is exchanged.
            let mut exchanged = intact.clone();
            let (one, two) = (intact.entries[at].1.clone(), intact.entries[other].1.clone());
            (exchanged.entries[at].1, exchanged.entries[other].1) = (two.clone(), one.clone());
            (exchanged.entries[at].1["number"], exchanged.entries[other].1["number"]) =
                (one["number"].clone(), two["number"].clone());
            place.write(&exchanged).await;
            assert_eq!(place.verify(&[]).await, Err(ChainBreak::Hash { number }), "with {}", other + 1);
        }
    }
}

async fn cut_tail_is_named_as_long_as_one_witness_is_left(place: Place) {
    let (_, archived) = signed_log(&place).await;
    let intact = place.read().await;
    for kept in 1..7 {
        let number = kept as u64 + 1;
        let mut cut = intact.clone();
        cut.entries.truncate(kept);
        place.write(&cut).await;
        assert_eq!(place.verify(&[]).await, Err(ChainBreak::Tail { number, written: 7 }), "the head is left");

        let last = &cut.entries[kept - 1].1;
        cut.head = json!({ "number": last["number"], "hash": last["hash"] });
        place.write(&cut).await;
        assert_eq!(place.verify(&[]).await, Err(ChainBreak::Tail { number, written: 7 }), "the checkpoint is left");
        let found = place.service().checkpoint_audit().await.unwrap();
        assert_eq!(found.broken, [(tenant_id("acme"), ChainBreak::Checkpoint { number: 7 })]);

        cut.checkpoint = None;
        place.write(&cut).await;
        if place.directory().is_some() {
            let file = || place.directory().expect("an embedded store").join(FILE_NAME);
            assert_eq!(place.verify(&[]).await, Err(ChainBreak::Tail { number, written: 7 }), "the file is left");
            let found = place.service().checkpoint_audit().await.unwrap();
            assert_eq!(found.broken, [(tenant_id("acme"), ChainBreak::Checkpoint { number: 7 })]);
            let text = std::fs::read(file()).expect("a file");
            std::fs::remove_file(file()).expect("removed");
            assert_eq!(place.verify(&[]).await, Ok(kept as u64), "nothing is left in the directory");
            assert_eq!(place.verify(&archived).await, Err(ChainBreak::Tail { number, written: 7 }));
            std::fs::write(file(), text).expect("written");
        } else {
            assert_eq!(place.verify(&[]).await, Ok(kept as u64), "nothing is left in the database");
            assert_eq!(place.verify(&archived).await, Err(ChainBreak::Tail { number, written: 7 }));
        }
    }
}

async fn change_of_the_stored_head_is_named(place: Place) {
    signed_log(&place).await;
    let intact = place.read().await;
    for (member, value, expected) in [
        ("number", json!(6), ChainBreak::Head { number: 7 }),
        ("number", json!(0), ChainBreak::Head { number: 7 }),
        ("number", json!(8), ChainBreak::Tail { number: 8, written: 8 }),
        ("hash", intact.entries[5].1["hash"].clone(), ChainBreak::Head { number: 7 }),
        ("hash", json!("unreadable"), ChainBreak::Head { number: 7 }),
    ] {
        let mut contents = intact.clone();
        contents.head[member] = value;
        place.write(&contents).await;
        assert_eq!(place.verify(&[]).await, Err(expected), "{}", contents.head);
        let found = place.service().checkpoint_audit().await.unwrap();
        assert_eq!(found.broken, [(tenant_id("acme"), expected)], "{}", contents.head);
    }
}

async fn unreadable_entry_of_a_checkpoint_is_named(place: Place) {
    let (mut acme, _) = signed_log(&place).await;
    let signed_in = acme.event(AuditAction::SignedIn);
    append(&place, &acme, vec![signed_in]).await;
    let mut contents = place.read().await;
    contents.entries[6].1["hash"] = json!("unreadable");
    place.write(&contents).await;
    let found = place.service().checkpoint_audit().await.unwrap();
    assert_eq!(found.broken, [(tenant_id("acme"), ChainBreak::Unreadable { number: 7 })]);
    let lost = place.service().find_lost_checkpoints().await.unwrap();
    assert!(lost.iter().all(|lost| lost.tenant == tenant_id("acme") && lost.number == 7), "{lost:?}");
}

/// Writes the log anew without an entry, with consistent hashes, as one can who has the store alone.
fn written_anew(intact: &Contents, without: usize) -> Contents {
    let mut contents = intact.clone();
    contents.entries.clear();
    let mut head = AuditHead::default();
    let kept = intact.entries.iter().enumerate().filter(|(at, _)| *at != without);
    for (_, (_, entry)) in kept {
        let entry: AuditEntry = serde_json::from_value(entry.clone()).unwrap();
        let entry = AuditEntry::after(&head, entry.tenant, entry.event);
        head = entry.head();
        contents.entries.push((entry.number, serde_json::to_value(&entry).unwrap()));
    }
    contents.head = serde_json::to_value(head).unwrap();
    contents
}

async fn log_that_was_written_anew_is_neither_accepted_nor_signed(place: Place) {
    let (mut acme, archived) = signed_log(&place).await;
    let events = vec![acme.event(AuditAction::SignedIn), acme.event(AuditAction::SignedOut)];
    append(&place, &acme, events).await;
    let intact = place.read().await;
    for without in 0..7 {
        place.write(&written_anew(&intact, without)).await;
        // Entry 7 is the one that was signed.
        assert_eq!(place.verify(&[]).await, Err(ChainBreak::Checkpoint { number: 7 }), "without {}", without + 1);
        let found = place.service().checkpoint_audit().await.unwrap();
        assert_eq!(found.broken, [(acme.id.clone(), ChainBreak::Checkpoint { number: 7 })]);
        assert_eq!(place.read().await.checkpoint, intact.checkpoint, "the old one is kept");
    }
    // An entry since the checkpoint can be left out by one who writes the store: it is known when the next is signed.
    place.write(&written_anew(&intact, 7)).await;
    assert_eq!(place.verify(&archived).await, Ok(8));
    place.write(&intact).await;
    let newest = place.service().checkpoint_audit().await.unwrap().newest;
    assert_eq!(newest[0].number, 9);
    place.write(&written_anew(&intact, 7)).await;
    assert_eq!(place.verify(&newest).await, Err(ChainBreak::Tail { number: 9, written: 9 }));
}

async fn checkpoint_of_another_key_is_named_and_replaced(place: Place) {
    let (_, signed) = signed_log(&place).await;
    let intact = place.read().await;
    let of_another = Keyring::new(&RootSecret::new(vec![7; 32]).unwrap(), &[]);
    let key = &of_another.current().checkpoints;
    let forged = Checkpoint::sign(key, signed[0].tenant.clone(), signed[0].head(), signed[0].signed_at, None);
    for checkpoint in [forged.to_json(), intact.checkpoint.clone().unwrap().replacen("\"number\":7", "\"number\":6", 1)]
    {
        place.write(&Contents { checkpoint: Some(checkpoint), ..intact.clone() }).await;
        assert!(matches!(place.verify(&[]).await, Err(ChainBreak::Signature { .. })));
        let found = place.service().checkpoint_audit().await.unwrap();
        assert!(found.broken.is_empty() && found.newest[0].head() == signed[0].head());
        assert_eq!(place.verify(&[]).await, Ok(7));
    }
}
