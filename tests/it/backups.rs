//! `keymark backup` and `keymark restore`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME, MAX_FEED_CHANGES};
use keymark::store::{Backup, BackupStore, Record, RecordKind, TransferStore};
use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, yield_now};

use crate::contract::fixtures::{Tenant, commit, systems, tenant};
use crate::support::process::{self, PROGRAM, Server, directory, on_disk_of, run};
use crate::support::{mongod, within};

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

/// A disk in memory that holds the thread of a backup at one of its reads.
#[derive(Clone, Debug)]
struct HoldingDisk(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    content: InMemoryBackend,
    /// Reads of backups so far.
    reads: AtomicU64,
    /// The read that is held.
    held: AtomicU64,
    is_held: Notify,
    released: Mutex<Receiver<()>>,
}

impl StorageBackend for HoldingDisk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.content.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        if std::thread::current().name() == Some("backup")
            && self.0.reads.fetch_add(1, Ordering::SeqCst) == self.0.held.load(Ordering::SeqCst)
        {
            self.0.is_held.notify_one();
            // Fails if the test has ended.
            let _ = self.0.released.lock().unwrap().recv();
        }
        self.0.content.read(offset, out)
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.0.content.set_len(length)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.content.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.content.write(offset, data)
    }
}

/// A store with a hundred systems, of which a backup is held in the middle.
struct HeldBackup {
    store: Arc<EmbeddedStore>,
    acme: Tenant,
    copies: TempDir,
    file: PathBuf,
    backup: JoinHandle<Backup>,
    release: Sender<()>,
}

impl HeldBackup {
    async fn begin() -> Self {
        let (release, released) = channel();
        let disk = HoldingDisk(Arc::new(Hold {
            content: InMemoryBackend::new(),
            reads: AtomicU64::new(0),
            held: AtomicU64::new(u64::MAX),
            is_held: Notify::new(),
            released: Mutex::new(released),
        }));
        let opened = disk.clone();
        // Without a cache, so that a backup reads from the disk.
        let opener = move || Ok(Database::builder().set_cache_size(0).create_with_backend(opened.clone())?);
        let store = Arc::new(EmbeddedStore::open_with(opener, MAX_FEED_CHANGES).expect("an empty disk"));
        let mut acme = tenant("acme");
        for number in 0..100 {
            let system = acme.system(&format!("System {number}"));
            commit(&*store, acme.create(&system)).await;
        }
        let copies = directory();
        // Counts the reads of a backup.
        back_up(&store, &copies.path().join("first")).await;
        let reads = disk.0.reads.swap(0, Ordering::SeqCst);
        assert!(reads > 20, "{reads} reads");
        disk.0.held.store(reads / 2, Ordering::SeqCst);

        let file = copies.path().join("second");
        let backup = tokio::spawn({
            let (store, file) = (Arc::clone(&store), file.clone());
            async move { back_up(&store, &file).await }
        });
        within(disk.0.is_held.notified()).await;
        assert_eq!(names(copies.path()), ["first", "second.partial"]);
        Self { store, acme, copies, file, backup, release }
    }
}

async fn back_up(store: &EmbeddedStore, file: &Path) -> Backup {
    within(store.back_up(file)).await.expect("the store works").expect("a backup")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_committed_while_a_backup_is_in_the_middle_and_is_not_in_it() {
    let HeldBackup { store, mut acme, copies, file, backup, release } = HeldBackup::begin().await;
    let late = acme.system("Late");
    within(commit(&*store, acme.create(&late))).await;
    assert!(!backup.is_finished(), "the backup is held");
    assert_eq!(systems(&*store, &acme.id).await.len(), 101);

    release.send(()).expect("held");
    let copied = within(backup).await.expect("a backup");
    assert_eq!(copied.audit_entries, 100);
    assert_eq!(names(copies.path()), ["first", "second"]);
    let restored = directory();
    std::fs::copy(&file, restored.path().join(FILE_NAME)).expect("copied");
    let restored_store = EmbeddedStore::open(restored.path()).expect("a store");
    let restored_systems = systems(&restored_store, &acme.id).await;
    assert_eq!(restored_systems.len(), 100);
    assert!(restored_systems.iter().all(|system| system.id != late.id), "the copy is of the moment when it began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_dropped_in_the_middle_leaves_no_file_and_disturbs_no_later_one() {
    let HeldBackup { store, copies, file, backup, release, .. } = HeldBackup::begin().await;
    backup.abort();
    assert!(within(backup).await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(names(copies.path()), ["first"]);
    // The thread of the dropped one is still held.
    let copied = back_up(&store, &file).await;
    release.send(()).expect("held");
    assert_eq!(copied.audit_entries, 100);
    assert_eq!(names(copies.path()), ["first", "second"]);
}

/// Adds so much to the store in this directory that a copy takes a while.
pub async fn enlarge(data: &Path) {
    let copy = directory();
    let (file, copied) = (data.join(FILE_NAME), copy.path().join(FILE_NAME));
    std::fs::copy(&file, &copied).expect("copied");
    let store = EmbeddedStore::open(copy.path()).expect("a store");
    let value = "x".repeat(100);
    let setting = |number| Record::Setting { name: format!("number {number}"), value: value.clone() };
    store.write_records(RecordKind::Settings, (0..100_000).map(setting).collect()).await.expect("written");
    // Not renamed: a store that was dropped closes its file a moment later.
    std::fs::copy(&copied, &file).expect("copied");
}

fn spawn_backup(data: &Path, file: &Path) -> Child {
    let mut command = process::keymark();
    command.env("KEYMARK_DATA_DIR", data).arg("backup").arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary")
}

fn send(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.cast_signed()).expect("an id");
    kill_process(process, signal).expect("it runs");
}

/// Stops the process as soon as it writes to the backup.
async fn stop_in_the_middle(process: u32, file: &Path) {
    let partial = PathBuf::from(format!("{}.partial", file.display()));
    within(async {
        while !partial.exists() {
            yield_now().await;
        }
        send(process, Signal::STOP);
        let is_stopped = || {
            let mut threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process");
            threads.all(|thread| {
                let state = std::fs::read_to_string(thread.expect("a thread").path().join("stat"));
                state.is_ok_and(|state| state.rsplit(") ").next().is_some_and(|state| state.starts_with('T')))
            })
        };
        while !is_stopped() {
            yield_now().await;
        }
    })
    .await;
    assert!(partial.exists() && !file.exists(), "the backup was completed before the process was stopped");
}

async fn refusal(client: Child) -> String {
    let output = within(client.wait_with_output()).await.expect("ended");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[tokio::test]
async fn a_backup_leaves_no_file_when_its_client_or_its_server_ends_in_the_middle() {
    let (data, copies) = (directory(), directory());
    start(data.path()).await.stop().await;
    enlarge(data.path()).await;
    let file = copies.path().join("backup");
    let server = start(data.path()).await;

    let mut client = spawn_backup(data.path(), &file);
    stop_in_the_middle(server.id(), &file).await;
    within(client.kill()).await.expect("killed");
    send(server.id(), Signal::CONT);
    within(async {
        while !names(copies.path()).is_empty() {
            yield_now().await;
        }
    })
    .await;

    let client = spawn_backup(data.path(), &file);
    stop_in_the_middle(server.id(), &file).await;
    send(server.id(), Signal::TERM);
    send(server.id(), Signal::CONT);
    assert!(refusal(client).await.contains("the server was stopped"));
    let (status, log) = server.wait().await;
    assert!(status.success(), "{log}");
    assert!(names(copies.path()).is_empty());

    // Without a server.
    let client = spawn_backup(data.path(), &file);
    let process = client.id().expect("running");
    stop_in_the_middle(process, &file).await;
    send(process, Signal::TERM);
    send(process, Signal::CONT);
    assert!(refusal(client).await.contains("interrupted"));
    assert!(names(copies.path()).is_empty());

    let (code, _, said) = keymark(data.path(), &["backup", text(&file)]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(names(copies.path()), ["backup"]);
}

#[tokio::test]
async fn a_backup_that_fills_the_disk_leaves_no_file_and_the_store_goes_on() {
    let (source, data) = (directory(), directory());
    let server = start(source.path()).await;
    let token = server.sign_in("admin", PASSWORD).await;
    let keys = create_keys(&server, &token, 2).await;
    server.stop().await;
    enlarge(source.path()).await;
    let mut command = on_disk_of("64m", data.path());
    command.args(["sh", "-c", "cp -p \"$0\"/* \"$KEYMARK_DATA_DIR\" && exec \"$@\""]).arg(source.path()).arg(PROGRAM);
    command.env("KEYMARK_DATA_DIR", data.path());
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let disk = PathBuf::from(format!("/proc/{}/root{}", server.id(), data.path().display()));

    let filler = disk.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file beside the store");
    while file.write_all(&[1; 4096]).is_ok() {}
    // Room for changes, and less than a backup needs.
    let length = file.metadata().expect("its length").len();
    file.set_len(length - (4 << 20)).expect("shorter");
    drop(file);

    let before = names(&disk);
    let backup = data.path().join("backup");
    let (code, _, said) = keymark(&disk, &["backup", text(&backup)]).await;
    assert!(code == 1 && said.contains("/backup: No space left on device"), "{said}");
    assert_eq!(names(&disk), before, "what was written of it is removed");
    revoke(&server, &token, &keys[0].0).await;
    assert_eq!(server.verdict(&keys[0].1).await, "REVOKED");
    assert_eq!(server.verdict(&keys[1].1).await, "VALID");

    std::fs::remove_file(&filler).expect("it is there");
    let (code, said, log) = keymark(&disk, &["backup", text(&backup)]).await;
    assert!(code == 0 && said.contains("/backup: 2 keys, "), "{said}{log}");
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
}
