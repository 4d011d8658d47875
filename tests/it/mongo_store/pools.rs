//! Reads of a bypassed cache: what they share, how many may wait, and what does not wait for them.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use keymark::clock::{Environment, SystemStopwatch};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::{Role, Timing};
use keymark::domain::keys::KeyDigest;
use keymark::domain::leases::{Incarnation, LENGTH_SETTING, Lease, LogTime};
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, System, SystemOrder};
use keymark::store::{KeyStore, LeaseStore, Page, PageRequest, ScanStore, SettingsStore, StoreError, SystemStore};
use mongodb::bson::{Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{OneKey, acme, connect};
use crate::contract::fixtures::commit;
use crate::support::mongod::{Mongod, fresh_database};
use crate::support::within;

/// Longer than the test takes. Calls that wait for a connection fail after it.
const CALL_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn leases_and_loads_do_not_wait_for_the_connections_of_requests() {
    let mongod = Mongod::replica_set().await;
    let mut options = mongod.fresh_database();
    options.uri = format!("{}&maxPoolSize=1", options.uri);
    options.call_limit = CALL_LIMIT;
    let store = Arc::new(connect(&options).await);
    let (mut acme, _) = acme();
    let system = acme.system("Billing");
    let create = acme.create(&system);
    commit(&*store, create).await;
    let blocked = doc! {
        "failCommands": ["find"], "namespace": format!("{}.systems", options.database),
        "blockConnection": true, "blockTimeMS": 60_000,
    };
    mongod.admin(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": blocked }).await;
    let (occupying, tenant) = (Arc::clone(&store), acme.id.clone());
    let request = tokio::spawn(async move { occupying.find_system(&tenant, system.id).await });
    mongod.admin(doc! { "waitForFailPoint": "failCommand", "timesEntered": 1, "maxTimeMS": 20_000 }).await;

    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1));
    let lease = Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack: false, length: None };
    store.put_lease(&lease).await.expect("the probe has a connection");
    assert_eq!(store.list_leases().await.unwrap(), [lease]);
    assert_eq!(store.find_setting(LENGTH_SETTING).await.unwrap(), None);
    store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert!(store.delete_lease(&lease).await.unwrap());
    request.abort();
}

#[tokio::test]
async fn lease_is_renewed_while_reads_of_keys_have_all_connections_of_requests() {
    let mongod = Mongod::replica_set().await;
    let mut options = mongod.fresh_database();
    options.uri = format!("{}&maxPoolSize=1", options.uri);
    options.call_limit = CALL_LIMIT;
    let store = Arc::new(connect(&options).await);
    let timing = Timing { lease: Duration::from_secs(12), probe_interval: Duration::from_millis(50) };
    let coherence =
        Coherence::new(store.clone(), Environment::system(), Arc::new(SystemStopwatch), Role::Member(timing));
    let (following, stop) = (Arc::clone(&coherence), CancellationToken::new());
    let _stop_on_drop = stop.clone().drop_guard();
    tokio::spawn(async move { following.follow(stop, |_| ()).await });
    let uses_cache = || coherence.read(|_| ()).is_some();
    wait_until(&coherence, async || uses_cache()).await;

    let blocked = doc! {
        "failCommands": ["find"], "namespace": format!("{}.keys", options.database),
        "blockConnection": true, "blockTimeMS": 60_000,
    };
    mongod.admin(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": blocked }).await;
    let reads: Vec<_> = (0..10)
        .map(|number| {
            let store = Arc::clone(&store);
            AbortOnDropHandle::new(tokio::spawn(async move { store.find_key(&[digest(number)]).await }))
        })
        .collect();
    mongod.admin(doc! { "waitForFailPoint": "failCommand", "timesEntered": 1, "maxTimeMS": 20_000 }).await;
    let sequence = async || store.list_leases().await.expect("leases").first().map_or(0, |lease| lease.sequence);
    let before = sequence().await;
    wait_until(&coherence, async || sequence().await >= before + 3).await;
    assert!(uses_cache());
    assert!(reads.iter().all(|read| !read.is_finished()), "they still wait");
}

/// Waits until the condition holds, which is evaluated again whenever the lease was renewed.
async fn wait_until(coherence: &Coherence, condition: impl AsyncFn() -> bool) {
    let mut changes = coherence.changes();
    let holds = async {
        while !condition().await {
            changes.changed().await.expect("it follows the feed");
        }
    };
    within(holds).await;
}

fn digest(number: usize) -> KeyDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    KeyDigest::from_bytes(bytes)
}

#[tokio::test]
async fn keys_that_are_looked_up_at_the_same_time_are_one_read() {
    let OneKey { store, key, database, .. } = OneKey::new().await;
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let digests: Vec<_> = (0..500).map(digest).chain([key.digest]).map(|digest| [digest]).collect();
    let found = join_all(digests.iter().map(|digests| store.find_key(digests))).await;

    let found: Vec<_> = found.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(found, [key]);
    let reads = doc! { "ns": format!("{}.keys", database.name()), "op": "query" };
    let profile = database.collection::<Document>("system.profile");
    assert_eq!(profile.count_documents(reads).await.unwrap(), 1);
}

#[tokio::test]
async fn equal_lists_that_are_read_at_the_same_time_are_one_read() {
    let OneKey { store, mut acme, system, database, .. } = OneKey::new().await;
    let other = acme.system("Delivery");
    let create = acme.create(&other);
    commit(&store, create).await;
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let order = SystemOrder::default();
    let descending = SystemOrder { direction: Direction::Descending, ..order };
    let page = PageRequest::first(1);
    let list = |order| store.list_systems(&acme.id, &Search::All, order, &page);
    let lists = join_all((0..500).map(|n| list(if n < 400 { order } else { descending }))).await;

    let lists: Vec<_> = lists.into_iter().map(Result::unwrap).collect();
    let of = |system: &System| Page { items: vec![system.clone()], has_more: true };
    assert!(lists[..400].iter().all(|list| *list == of(&system)), "{:?}", lists[0]);
    assert!(lists[400..].iter().all(|list| *list == of(&other)), "{:?}", lists[400]);
    let reads = doc! { "ns": format!("{}.systems", database.name()), "op": "query" };
    let profile = database.collection::<Document>("system.profile");
    assert_eq!(profile.count_documents(reads).await.unwrap(), 2);
}

#[tokio::test]
async fn look_ups_beyond_the_number_that_may_wait_are_refused() {
    let store = connect(&fresh_database().await).await;
    let digests: Vec<_> = (0..4_100).map(|number| [digest(number)]).collect();
    let found = join_all(digests.iter().map(|digests| store.find_key(digests))).await;
    let refused = found.iter().filter(|found| matches!(found, Err(StoreError::Overloaded))).count();
    assert_eq!(refused, 100);
    assert!(found[..4_000].iter().all(|found| matches!(found, Ok(None))));
}
