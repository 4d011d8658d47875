//! The contract suite on the embedded store.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::future::join_all;
use keymark::domain::audit::{AuditAction, AuditFilter, AuditOutcome};
use keymark::domain::changes::{Batch, Expected, Position, Requirement, Row, RowId, StoredRow};
use keymark::domain::keys::Key;
use keymark::domain::leases::Incarnation;
use keymark::domain::operators::Operator;
use keymark::domain::pages::{PageEnd, PageRequest};
use keymark::domain::refusal::ErrorCode;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{System, SystemOrder, SystemOrderField};
use keymark::domain::tenants::Tenant as TenantRow;
use keymark::domain::time::Timestamp;
use keymark::domain::usage::Flush;
use keymark::store::embedded::{EmbeddedStore, FILE_NAME};
use keymark::store::{
    AuditStore, CommitStore, KeyStore, OperatorStore, PurgeStore, ScanStore, Store, StoreError, SystemStore, UsageStore,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::backends::InMemoryBackend;
use redb::{ReadableTable, StorageBackend, TableDefinition};
use tempfile::TempDir;

use crate::contract::fixtures::{SECOND, START, Tenant, commit, follow, system_name, tenant, whole};
use crate::contract::keys::with_key;
use crate::contract::operators::added;
use crate::contract::usage::used;
use crate::contract::{Factory, contract_suite};

contract_suite!(contract, EmbeddedFactory::default());

/// Number of changes that the feed of a new store keeps: more than a case commits while it follows, and few enough to
/// exceed quickly.
const MAX_FEED_CHANGES: u64 = 256;

/// Each store has a directory of its own. A crash leaves a copy of the file in the next one.
#[derive(Default)]
struct EmbeddedFactory(Mutex<Vec<TempDir>>);

impl EmbeddedFactory {
    fn fresh_directory(&self) -> PathBuf {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().to_owned();
        self.0.lock().unwrap().push(directory);
        path
    }

    fn last_directory(&self) -> PathBuf {
        self.0.lock().unwrap().last().expect("a store was opened").path().to_owned()
    }
}

#[async_trait]
impl Factory for EmbeddedFactory {
    async fn open(&self) -> Arc<dyn Store> {
        let path = self.fresh_directory().join(FILE_NAME);
        let opener = move || Ok(redb::Database::create(&path)?);
        Arc::new(EmbeddedStore::open_with(opener, MAX_FEED_CHANGES).expect("the file is created"))
    }

    async fn beside(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// Opens a copy of the file as it is without a close: what another process finds after a crash.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let left_behind = self.last_directory().join(FILE_NAME);
        let directory = self.fresh_directory();
        std::fs::copy(left_behind, directory.join(FILE_NAME)).expect("the file is copied");
        drop(store);
        Arc::new(EmbeddedStore::open(&directory).expect("the file is opened"))
    }

    async fn position_too_old(&self, store: &dyn Store) -> Position {
        let mut busy = tenant("busy");
        let mut follower = follow(store, None).await;
        let note = busy.note(AuditAction::SignedIn);
        commit(store, note).await;
        let position = follower.next().await.position;
        for _ in 0..=MAX_FEED_CHANGES {
            let note = busy.note(AuditAction::SignedIn);
            commit(store, note).await;
        }
        position
    }
}

/// Opens a store with two systems that each have a key, and with an operator, after `rewrite` has changed the bytes of
/// the first key, of the operator and of the first system.
async fn rewritten(rewrite: fn(&[u8]) -> Vec<u8>) -> (EmbeddedStore, TempDir, Tenant, [(System, Key); 2], Operator) {
    let directory = TempDir::new().expect("a temporary directory");
    let store = EmbeddedStore::open(directory.path()).expect("the file is created");
    let mut acme = tenant("acme");
    let (first, second) = (with_key(&store, &mut acme, "Alpha").await, with_key(&store, &mut acme, "Beta").await);
    let ada = added(&store, &mut acme, "ada").await;
    let copy = TempDir::new().expect("a temporary directory");
    std::fs::copy(directory.path().join(FILE_NAME), copy.path().join(FILE_NAME)).expect("the file is copied");
    drop((store, directory));
    let database = redb::Database::create(copy.path().join(FILE_NAME)).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut keys = txn.open_table(TableDefinition::<&[u8; 32], &[u8]>::new("keys")).unwrap();
        let bytes = rewrite(keys.get(first.1.digest.as_bytes()).unwrap().unwrap().value());
        keys.insert(first.1.digest.as_bytes(), bytes.as_slice()).unwrap();
        let mut operators = txn.open_table(TableDefinition::<&str, &[u8]>::new("operators")).unwrap();
        let bytes = rewrite(operators.get(ada.id.to_string().as_str()).unwrap().unwrap().value());
        operators.insert(ada.id.to_string().as_str(), bytes.as_slice()).unwrap();
        let (tenant, id) = (acme.id.as_str(), first.0.id.to_string());
        let mut systems = txn.open_table(TableDefinition::<(&str, &str), &[u8]>::new("systems")).unwrap();
        let bytes = rewrite(systems.get((tenant, id.as_str())).unwrap().unwrap().value());
        systems.insert((tenant, id.as_str()), bytes.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(database);
    let store = EmbeddedStore::open(copy.path()).expect("the file is opened");
    (store, copy, acme, [first, second], ada)
}

#[tokio::test]
async fn unreadable_row_is_refused_alone() {
    let (store, _directory, mut acme, [first, second], ada) = rewritten(|_| b"{}".to_vec()).await;
    let rows = store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let unreadable = [RowId::Key(first.1.digest), RowId::Operator(ada.id)].map(StoredRow::Unreadable);
    assert!(unreadable.iter().all(|row| rows.contains(row)), "{rows:?}");
    assert!(rows.contains(&StoredRow::Readable(Row::Key(second.1.clone()))), "{rows:?}");

    assert!(matches!(store.find_key(&[first.1.digest]).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.find_key(&[second.1.digest]).await.unwrap(), Some(second.1));
    let order = SystemOrder { field: SystemOrderField::CreatedAt, ..SystemOrder::default() };
    let listed = store.list_systems(&acme.id, &Search::All, order, &whole()).await.unwrap();
    assert_eq!(listed.items, [second.0]);
    assert_eq!(store.list_operators(None).await.unwrap(), []);

    let mut bolt = tenant("bolt");
    let row = Row::Tenant(TenantRow::new(bolt.id.clone(), system_name("Bolt"), START));
    for batch in
        [bolt.note(AuditAction::TenantCreated).insert(row.clone()), bolt.note(AuditAction::TenantDeleted).delete(&row)]
    {
        store.commit(batch).await.expect("the operator of another tenant is no obstacle");
    }
    let mut batch = acme.note(AuditAction::SystemDescribed);
    batch.requires.push(Requirement { row: RowId::Key(first.1.digest), expected: Expected::Present });
    store.commit(batch).await.expect("the key is there");
}

#[tokio::test]
async fn unreadable_use_does_not_hold_up_that_of_other_keys() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = EmbeddedStore::open(directory.path()).expect("the file is created");
    let mut acme = tenant("acme");
    let systems = [with_key(&store, &mut acme, "Alpha").await.0.id, with_key(&store, &mut acme, "Beta").await.0.id];
    let instance = Incarnation::generate(&mut StdRng::seed_from_u64(1));
    let flush = |number| {
        let at = START.plus(SECOND * u32::try_from(number).expect("small"));
        Flush { instance, number, at, uses: systems.map(|system| used(&acme, system, "abcd", 1, at)).to_vec() }
    };
    store.add_usage(&flush(1)).await.expect("added");
    let copy = TempDir::new().expect("a temporary directory");
    std::fs::copy(directory.path().join(FILE_NAME), copy.path().join(FILE_NAME)).expect("the file is copied");
    drop((store, directory));
    let database = redb::Database::create(copy.path().join(FILE_NAME)).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut usage = txn.open_table(TableDefinition::<(&str, &str), &[u8]>::new("usage")).unwrap();
        usage.insert((acme.id.as_str(), systems[0].to_string().as_str()), &b"unreadable"[..]).unwrap();
    }
    txn.commit().unwrap();
    drop(database);
    let store = EmbeddedStore::open(copy.path()).expect("the file is opened");
    store.add_usage(&flush(2)).await.expect("added");
    let found = store.find_usage_summaries(&acme.id, &systems[1..]).await.expect("a summary");
    assert_eq!(found.iter().map(|found| found.last_used_at).collect::<Vec<_>>(), [Some(START.plus(2 * SECOND))]);
}

#[tokio::test]
async fn row_in_a_newer_format_is_neither_read_nor_replaced() {
    let (store, _directory, mut acme, [first, second], ada) = rewritten(|row| [&[3], row].concat()).await;
    let is_newer = |error: &StoreError| matches!(error, StoreError::NewerFormat { found: 3, known: 2 });
    assert!(is_newer(&store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap_err()));
    assert!(is_newer(&store.find_key(&[first.1.digest]).await.unwrap_err()));
    assert!(is_newer(&store.find_operator(ada.id).await.unwrap_err()));
    assert!(is_newer(&store.find_system(&acme.id, first.0.id).await.unwrap_err()));
    assert_eq!(store.find_key(&[second.1.digest]).await.unwrap(), Some(second.1));

    let head = store.audit_head(&acme.id).await.unwrap();
    let (_, rename) = acme.rename(&first.0, "Renamed");
    assert!(matches!(store.commit(rename).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.audit_head(&acme.id).await.unwrap(), head);
    let note = acme.note(AuditAction::SignedIn);
    commit(&store, note).await;
}

/// A file in memory whose reads are counted, and stop while [`ReadGate::closed`] is locked.
#[derive(Clone, Debug)]
struct GatedFile {
    inner: Arc<InMemoryBackend>,
    gate: Arc<ReadGate>,
}

#[derive(Debug, Default)]
struct ReadGate {
    reads: AtomicU64,
    closed: Mutex<()>,
}

impl ReadGate {
    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

impl StorageBackend for GatedFile {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.gate.reads.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.closed.lock());
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.inner.write(offset, data)
    }
}

#[test]
fn scan_stops_when_its_caller_is_gone() {
    let gate = Arc::new(ReadGate::default());
    let file = GatedFile { inner: Arc::default(), gate: Arc::clone(&gate) };
    let opener = move || Ok(redb::Database::builder().set_cache_size(0).create_with_backend(file.clone())?);
    let store = EmbeddedStore::open_with(opener, MAX_FEED_CHANGES).expect("the file is created");
    let mut acme = tenant("acme");
    // No index decides it.
    let from = Some(Timestamp::from_millis(0));
    let filter = AuditFilter { outcome: Some(AuditOutcome::Done), from, ..AuditFilter::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let whole = runtime.block_on(async {
        // As many together as the writer queues.
        for _ in 0..20 {
            let notes: Vec<_> = (0..200).map(|_| acme.note(AuditAction::SignedIn)).collect();
            for committed in join_all(notes.into_iter().map(|note| store.commit(note))).await {
                committed.unwrap();
            }
        }
        let before = gate.reads();
        assert_eq!(store.count_audit(&acme.id, &filter).await.unwrap(), 4_000);
        gate.reads() - before
    });

    let closed = gate.closed.lock().unwrap();
    let before = gate.reads();
    runtime.block_on(async {
        tokio::select! {
            biased;
            counted = store.count_audit(&acme.id, &filter) => panic!("{counted:?}"),
            () = async { while gate.reads() == before { tokio::task::yield_now().await } } => {}
        }
    });
    drop(closed);
    // Waits for the thread of the scan.
    drop(runtime);
    let stopped = gate.reads() - before;
    assert!(stopped < whole / 4, "{stopped} of {whole} reads");
}

/// Entries of several blocks, whose times go back and forth across the ends of blocks.
#[tokio::test]
async fn filters_of_a_long_log_find_the_entries_that_match() {
    const ENTRIES: u32 = 3_000;
    let directory = TempDir::new().expect("a temporary directory");
    let store = EmbeddedStore::open(directory.path()).expect("the file is created");
    let mut acme = tenant("acme");
    let mark = |text: &str| Some(text.to_owned().try_into().expect("a mark"));
    let systems = [acme.system("Frequent").id, acme.system("Less frequent").id];
    let batches: Vec<_> = (0..ENTRIES)
        .map(|n| {
            acme.now = START.plus(SECOND * (n - n % 7 * 5 % (n + 1)));
            let action = if n % 500 == 3 { AuditAction::SystemDeleted } else { AuditAction::KeyRevoked };
            let mut event = acme.event(action);
            event.key_mark = if n % 700 == 9 { mark("rare") } else { mark("many") };
            event.previous_key_mark = (n % 900 == 9).then(|| mark("rare")).flatten();
            event.system = Some(systems[usize::from(n % 3 == 0)]);
            let event = if n % 600 == 5 { event.refused(ErrorCode::Forbidden, 1) } else { event };
            Batch::new(acme.id.clone(), event)
        })
        .collect();
    for batches in batches.chunks(200) {
        join_all(batches.iter().map(|batch| store.commit(batch.clone()))).await;
    }
    let all = store.list_audit_after(&acme.id, 0, ENTRIES as usize).await.unwrap();
    assert_eq!(all.len(), ENTRIES as usize);
    let at = |n: u32| Some(START.plus(SECOND * n));
    let actions = |actions: &[AuditAction]| Some(actions.to_vec());
    let (deleted, revoked) = (actions(&[AuditAction::SystemDeleted]), actions(&[AuditAction::KeyRevoked]));
    let system = Some(systems[1]);
    let none = AuditFilter::default();
    let filters = [
        AuditFilter { key_mark: mark("rare"), ..none.clone() },
        AuditFilter { key_mark: mark("rare"), from: at(100), to: at(2_000), ..none.clone() },
        AuditFilter { outcome: Some(AuditOutcome::Refused), ..none.clone() },
        AuditFilter { outcome: Some(AuditOutcome::Done), ..none.clone() },
        AuditFilter { actions: actions(&[AuditAction::SystemDeleted]), ..none.clone() },
        AuditFilter { actions: actions(&[AuditAction::SystemDeleted; 2]), ..none.clone() },
        AuditFilter { actions: actions(&[AuditAction::SystemDeleted, AuditAction::KeyRevoked]), ..none.clone() },
        AuditFilter {
            actions: actions(&[AuditAction::SystemDeleted, AuditAction::KeyRevoked]),
            outcome: Some(AuditOutcome::Done),
            ..none.clone()
        },
        AuditFilter { from: at(1_010), to: at(1_040), ..none.clone() },
        AuditFilter { from: at(1_000), to: at(2_900), ..none.clone() },
        AuditFilter { from: at(2_990), ..none.clone() },
        AuditFilter { to: at(3), ..none.clone() },
        AuditFilter { from: at(10), to: at(2_000), outcome: Some(AuditOutcome::Done), ..none.clone() },
        AuditFilter { from: at(4_000), ..none.clone() },
        AuditFilter { system, actions: deleted.clone(), ..none.clone() },
        AuditFilter { system, actions: revoked.clone(), ..none.clone() },
        AuditFilter { system, actions: revoked, from: at(1_010), to: at(1_900), ..none.clone() },
        AuditFilter { system, actions: actions(&[AuditAction::SystemDeleted, AuditAction::SignedIn]), ..none.clone() },
        AuditFilter { system, outcome: Some(AuditOutcome::Refused), ..none.clone() },
        AuditFilter { system, outcome: Some(AuditOutcome::Done), to: at(1_040), ..none.clone() },
        AuditFilter { system, key_mark: mark("rare"), actions: deleted.clone(), ..none.clone() },
        AuditFilter { key_mark: mark("many"), actions: deleted, from: at(500), ..none.clone() },
        AuditFilter { system, from: at(2_990), ..none },
    ];
    for filter in filters {
        let matching: Vec<u64> = all.iter().rev().filter(|e| filter.matches(&e.event)).map(|e| e.number).collect();
        assert_eq!(store.count_audit(&acme.id, &filter).await.unwrap(), matching.len() as u64, "{filter:?}");
        for from in [PageEnd::First, PageEnd::Last] {
            for (after, before) in [(None, None), (Some(2_050), None), (Some(2_048), Some(1_023)), (None, Some(1_024))]
            {
                let request = PageRequest { after, before, limit: 40, from };
                let page = store.list_audit(&acme.id, &filter, &request).await.unwrap();
                let within = |number: &&u64| after.is_none_or(|a| **number < a) && before.is_none_or(|b| **number > b);
                let expected: Vec<u64> = matching.iter().filter(within).copied().collect();
                let skipped = expected.len().saturating_sub(40);
                let expected = match from {
                    PageEnd::First => &expected[..expected.len() - skipped],
                    PageEnd::Last => &expected[skipped..],
                };
                let numbers: Vec<u64> = page.items.iter().map(|entry| entry.number).collect();
                assert_eq!((numbers.as_slice(), page.has_more), (expected, skipped > 0), "{filter:?} {request:?}");
            }
        }
    }
}

#[tokio::test]
async fn many_entries_are_purged_with_their_indexes() {
    const ENTRIES: u32 = 2_600;
    let directory = TempDir::new().expect("a directory");
    let store = EmbeddedStore::open(directory.path()).expect("a store");
    let mut acme = tenant("acme");
    let mut batches = Vec::new();
    for second in 0..ENTRIES {
        acme.now = START.plus(SECOND * second);
        batches.push(acme.note(if second % 2 == 0 { AuditAction::SignedIn } else { AuditAction::SignedOut }));
    }
    for batch in batches {
        store.commit(batch).await.expect("committed");
    }
    for last in [1_000_u64, 2_100, 2_600] {
        store.purge_audit(&acme.id, last).await.expect("purged");
        let (since, action) = (START.plus(SECOND * 1_500), AuditAction::SignedIn);
        let none = AuditFilter::default();
        for filter in [
            none.clone(),
            AuditFilter { from: Some(since), ..none.clone() },
            AuditFilter { to: Some(since), ..none.clone() },
            AuditFilter { outcome: Some(AuditOutcome::Done), ..none.clone() },
            AuditFilter { actions: Some(vec![action]), ..none.clone() },
            AuditFilter { actions: Some(vec![action]), to: Some(since), ..none },
        ] {
            let numbers = (last + 1..=u64::from(ENTRIES)).filter(|number| {
                let at = START.plus(SECOND * u32::try_from(number - 1).unwrap());
                let is_of_action = filter.actions.is_none() || (number - 1) % 2 == 0;
                is_of_action && filter.from.is_none_or(|from| at >= from) && filter.to.is_none_or(|to| at < to)
            });
            let count = store.count_audit(&acme.id, &filter).await.expect("a count");
            assert_eq!(count, numbers.count() as u64, "{last} {filter:?}");
        }
    }
    assert_eq!(store.audit_head(&acme.id).await.expect("a head").number, u64::from(ENTRIES));
    // A copy, since one process opens a file once.
    let copy = directory.path().join("copy");
    std::fs::copy(directory.path().join(FILE_NAME), &copy).expect("copied");
    let database = redb::Database::create(copy).expect("a store");
    let reading = redb::ReadableDatabase::begin_read(&database).expect("a snapshot");
    for name in ["audit", "audit_by_id", "audit_by_subject"] {
        let tables = reading.list_tables().expect("tables");
        let table = tables.into_iter().find(|table| redb::TableHandle::name(table) == name).expect("a table");
        let rows = reading.open_untyped_table(table).expect("a table");
        assert_eq!(redb::ReadableTableMetadata::len(&rows).expect("a length"), 0, "{name}");
    }
}
