//! The embedded store on a disk that fails: at each call of a fixed history in turn, and when it is full.

use std::collections::HashSet;
use std::io::{Error, ErrorKind, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use keymark::domain::audit::AuditEntry;
use keymark::domain::ids::SystemId;
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::System;
use keymark::store::embedded::EmbeddedStore;
use keymark::store::{Store, StoreError, SystemStore};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{Database, StorageBackend};
use serde_json::json;

use crate::contract::audit::assert_chained;
use crate::contract::fixtures::{Tenant, commit, log, systems, tenant};
use crate::support::process::{PROGRAM, Server, directory, on_disk_of};

/// Changes of the history, each of which creates a system.
const CHANGES: usize = 6;
/// The unit that a disk writes whole.
const SECTOR: usize = 512;
/// The unit in which a file system allocates space.
const PAGE: u64 = 4096;

/// What happens at a call of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call fails, and later ones succeed.
    Error,
    /// Half of what the call writes is written, and the process ends.
    TornWrite,
    /// The power fails: each sector that was written since the last sync is kept or lost.
    PowerLoss,
}

#[derive(Debug)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A disk with one file, in memory.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    /// The content at the last sync.
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Pages that have been written to.
    allocated: HashSet<u64>,
    is_full: bool,
    calls: u64,
    fault: Option<(u64, Fault)>,
    is_dead: bool,
}

impl Disk {
    /// A disk with a store that was closed. (A new file is created under another name, and renamed once it is complete.)
    async fn created() -> Self {
        let disk = Self::default();
        let store = disk.open().expect("an empty disk");
        let mut setup = tenant("setup");
        let system = setup.system("Created");
        commit(&store, setup.create(&system)).await;
        disk.after_crash(Fault::Error, &mut StdRng::seed_from_u64(0))
    }

    fn with_content(content: Vec<u8>) -> Self {
        let allocated = (0..(content.len() as u64).div_ceil(PAGE)).collect();
        let state = State { synced: content.clone(), content, allocated, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<EmbeddedStore, keymark::store::embedded::OpenError> {
        let disk = self.clone();
        let opener = move || Ok(Database::builder().create_with_backend(disk.clone())?);
        EmbeddedStore::open_with(opener, keymark::store::embedded::MAX_FEED_CHANGES)
    }

    /// What the next process finds: everything that was written, or, after a power failure, what had reached the disk.
    fn after_crash(&self, fault: Fault, rng: &mut StdRng) -> Self {
        let mut state = self.state();
        state.is_dead = true;
        if fault != Fault::PowerLoss {
            return Self::with_content(state.content.clone());
        }
        let mut content = state.synced.clone();
        for unsynced in &state.unsynced {
            match unsynced {
                Unsynced::Length(length) => {
                    if rng.random() {
                        content.resize(usize::try_from(*length).unwrap(), 0);
                    }
                }
                Unsynced::Write(offset, data) => {
                    let offset = usize::try_from(*offset).unwrap();
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        let start = offset + i * SECTOR;
                        if start + sector.len() <= content.len() && rng.random() {
                            content[start..start + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        Self::with_content(content)
    }
}

impl State {
    /// Counts a call. `write` is carried out in part if the write is torn.
    fn call(&mut self, write: Option<(u64, &[u8])>) -> Result<(), Error> {
        self.calls += 1;
        if let Some((at, fault)) = self.fault
            && self.calls == at
        {
            self.is_dead = fault != Fault::Error;
            if let Some((offset, data)) = write.filter(|_| fault == Fault::TornWrite) {
                self.write(offset, &data[..data.len() / 2]);
            }
            return Err(Error::other("input/output error"));
        }
        if self.is_dead { Err(Error::other("the process has ended")) } else { Ok(()) }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).unwrap();
        self.content[start..start + data.len()].copy_from_slice(data);
        self.allocated.extend(pages(offset, data));
        self.unsynced.push(Unsynced::Write(offset, data.to_vec()));
    }
}

fn pages(offset: u64, data: &[u8]) -> std::ops::Range<u64> {
    offset / PAGE..(offset + data.len() as u64).div_ceil(PAGE)
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.state().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut state = self.state();
        state.call(None)?;
        let start = usize::try_from(offset).unwrap();
        let found = state.content.get(start..start + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let mut state = self.state();
        state.call(None)?;
        state.content.resize(usize::try_from(length).unwrap(), 0);
        state.allocated.retain(|page| page * PAGE < length);
        state.unsynced.push(Unsynced::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.state();
        state.call(None)?;
        state.unsynced.clear();
        state.synced = state.content.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.state();
        state.call(Some((offset, data)))?;
        if state.is_full && pages(offset, data).any(|page| !state.allocated.contains(&page)) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.write(offset, data);
        Ok(())
    }
}

/// A change and what its commit returned.
struct Attempt {
    system: SystemId,
    result: Result<(), StoreError>,
}

async fn attempt(store: &dyn Store, acme: &mut Tenant) -> Attempt {
    let system = acme.system("New");
    let system = System { name: SystemName::parse(&system.id.to_string()).expect("a name"), ..system };
    let result = store.commit(acme.create(&system)).await.map(drop);
    Attempt { system: system.id, result }
}

async fn run_history(store: &dyn Store, acme: &mut Tenant) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for _ in 0..CHANGES {
        // Keeps the end of the log in memory, whatever becomes of the next commit.
        let _ = store.audit_head(&acme.id).await;
        attempts.push(attempt(store, acme).await);
    }
    attempts
}

/// Checks that the store holds every acknowledged change, none that was reported as not made, and a whole log.
async fn check(store: &dyn Store, acme: &Tenant, attempts: &[Attempt]) {
    let (log, systems) = (log(store, &acme.id).await, systems(store, &acme.id).await);
    assert_chained(&log);
    assert_eq!(log.len(), systems.len(), "each change with its entry");
    let head = log.last().map(AuditEntry::head).unwrap_or_default();
    assert_eq!(store.audit_head(&acme.id).await.expect("a head"), head);
    for Attempt { system, result } in attempts {
        let is_logged = log.iter().any(|entry| entry.event.system == Some(*system));
        let is_stored = systems.iter().any(|stored| stored.id == *system);
        assert_eq!(is_logged, is_stored);
        match result {
            Ok(()) => assert!(is_stored, "an acknowledged change is lost"),
            Err(StoreError::OutcomeUnknown(_)) => {}
            Err(StoreError::Unavailable(_) | StoreError::DiskFull(_)) => assert!(!is_stored, "{result:?}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs the history with the fault at one call, and then checks what the next process finds. Returns the number of calls
/// if the fault did not happen.
async fn crash(at: u64, fault: Fault) -> Option<u64> {
    let disk = Disk::created().await;
    disk.state().fault = Some((at, fault));
    let mut acme = tenant("acme");
    let mut attempts = Vec::new();
    if let Ok(store) = disk.open() {
        attempts = run_history(&store, &mut acme).await;
        if fault == Fault::Error {
            check(&store, &acme, &attempts).await;
        }
        let calls = disk.state().calls;
        if calls < at {
            assert!(attempts.iter().all(|attempt| attempt.result.is_ok()));
            return Some(calls);
        }
    }
    let rest = disk.after_crash(fault, &mut StdRng::seed_from_u64(at));
    let store = rest.open().unwrap_or_else(|error| panic!("{fault:?} at call {at}: {error}"));
    check(&store, &acme, &attempts).await;
    let system = acme.system("After the crash");
    commit(&store, acme.create(&system)).await;
    None
}

async fn crash_at_every_call(fault: Fault) {
    for at in 1.. {
        if let Some(calls) = crash(at, fault).await {
            assert!(calls > 100, "{calls} calls");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_changes_survive_an_error_at_any_call() {
    crash_at_every_call(Fault::Error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_changes_survive_a_torn_write_at_any_call() {
    crash_at_every_call(Fault::TornWrite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_changes_survive_a_power_failure_at_any_call() {
    crash_at_every_call(Fault::PowerLoss).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_refuses_changes_and_nothing_else() {
    let disk = Disk::default();
    let store = disk.open().expect("an empty disk");
    let mut acme = tenant("acme");
    let mut attempts = run_history(&store, &mut acme).await;
    disk.state().is_full = true;
    while attempts.iter().all(|attempt| attempt.result.is_ok()) {
        attempts.push(attempt(&store, &mut acme).await);
    }
    let refused = &attempts.last().expect("the refused one").result;
    assert!(matches!(refused, Err(StoreError::DiskFull(_))), "{refused:?}");
    check(&store, &acme, &attempts).await;
    assert!(store.find_system(&acme.id, attempts[0].system).await.unwrap().is_some());

    disk.state().is_full = false;
    attempts.extend(run_history(&store, &mut acme).await);
    check(&store, &acme, &attempts).await;
    check(&disk.after_crash(Fault::TornWrite, &mut StdRng::seed_from_u64(1)).open().unwrap(), &acme, &attempts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_on_a_full_disk_verifies_keys_and_accepts_changes_once_there_is_room() {
    let directory = directory();
    let mut command = on_disk_of("8m", directory.path());
    command.arg(PROGRAM).env("KEYMARK_DATA_DIR", directory.path());
    let server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let token = server.sign_in("admin", server.announced("Password").expect("a first password")).await;
    let (create, generate) = (
        "mutation ($n: String!) { createSystem(name: $n) { system { id } } }",
        "mutation ($i: ID!) { generateKey(systemId: $i) { apiKey } }",
    );
    let create = async |name: &str| server.graphql(Some(&token), create, json!({ "n": name })).await;
    let system = create("Billing").await["data"]["createSystem"]["system"]["id"].clone();
    let generated = server.graphql(Some(&token), generate, json!({ "i": system })).await;
    let key = generated["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned();

    // The mount is visible only in the server's own namespace.
    let filler = format!("/proc/{}/root{}/filler", server.id(), directory.path().display());
    let mut file = std::fs::File::create(&filler).expect("a file beside the store");
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let mut refused = serde_json::Value::Null;
    for i in 0.. {
        refused = create(&format!("System {i}")).await;
        if refused.get("errors").is_some() {
            break;
        }
    }
    assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{refused}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("disk of the store is full"), "{refused}");
    assert_eq!(server.verdict(&key).await, "VALID");
    let listed = server.graphql(Some(&token), "{ systems(first: 1) { totalCount } }", json!({})).await;
    assert!(listed["data"]["systems"]["totalCount"].as_u64() >= Some(1), "{listed}");

    std::fs::remove_file(&filler).expect("it is there");
    let created = create("There is room").await;
    assert_eq!(created.get("errors"), None, "{created}");
    let (status, log) = server.stop().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("cache bypassed"), "{log}");
}
