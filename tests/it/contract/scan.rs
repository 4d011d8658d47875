//! Scans: all keys, operators and sessions, or all systems of a tenant, as of the call or later.

use std::collections::HashMap;

use futures::TryStreamExt;
use keymark::domain::audit::{AuditAction, AuditActor};
use keymark::domain::changes::{Row, RowId, StoredRow};
use keymark::domain::ids::TenantId;
use keymark::domain::keys::{Key, KeyEnd};
use keymark::domain::system_lists::ListedSystem;
use keymark::domain::systems::{CurrentKey, Suspension, System};
use keymark::domain::texts::Description;
use keymark::store::Store;

use super::Factory;
use super::fixtures::*;
use super::keys::with_key;
use super::operators::{added, signed_in};
use super::systems::created;

/// More rows than the chunk of any backend.
const MANY: usize = 3_000;

pub async fn scan_returns_keys_operators_and_sessions_of_all_tenants(factory: &dyn Factory) {
    let store = factory.open().await;
    assert_eq!(scanned(&*store).await, HashMap::new());

    let mut expected = Vec::new();
    for name in ["acme", "bolt"] {
        let mut tenant = tenant(name);
        let (system, key) = with_key(&*store, &mut tenant, "Straße \u{1F511}").await;
        let (system, identify) = tenant.identify(&system, Some("cus_Straße"));
        let key = key.in_system(&system);
        commit(&*store, identify.replace(Row::Key(key.clone()))).await;
        let (system, gone) = with_key(&*store, &mut tenant, "Other").await;
        tenant.now = tenant.now.plus(SECOND);
        let (_, revoked, revoke) = tenant.revoke(&system, &gone);
        commit(&*store, revoke).await;
        let ada = added(&*store, &mut tenant, &format!("ada.{name}")).await;
        let session = signed_in(&*store, &mut tenant, &ada).await;
        let ended = signed_in(&*store, &mut tenant, &ada).await;
        let sign_out = tenant.sign_out(&ended);
        commit(&*store, sign_out).await;
        expected.extend([Row::Key(key), Row::Key(revoked), Row::Operator(ada), Row::Session(session)]);
    }

    assert_eq!(scanned(&*store).await, by_id(expected));
}

pub async fn scan_returns_many_rows(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (_, key) = with_key(&*store, &mut acme, "Billing").await;
    let others = (1..MANY).map(|_| Row::Key(Key { digest: acme.digest(), ..key.clone() })).collect::<Vec<_>>();
    for some in others.chunks(1_000) {
        let note = acme.note(AuditAction::KeyGenerated);
        commit(&*store, some.iter().cloned().fold(note, |batch, row| batch.insert(row))).await;
    }

    assert_eq!(scanned(&*store).await, by_id(others.into_iter().chain([Row::Key(key)])));
    drop(store.scan_rows().await.unwrap());
    let mut abandoned = store.scan_rows().await.unwrap();
    assert!(abandoned.try_next().await.unwrap().is_some());
}

pub async fn scan_sees_earlier_commits(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let (mut system, mut key) = with_key(&*instances[0], &mut acme, "Billing").await;

    for instance in instances.iter().cycle().skip(1).take(10) {
        let (without, revoked, revoke) = acme.revoke(&system, &key);
        commit(&*instances[0], revoke).await;
        assert_eq!(scanned(&**instance).await.get(&RowId::Key(key.digest)), Some(&Row::Key(revoked)));

        let generate;
        (system, key, generate) = acme.generate(&without);
        commit(&*instances[0], generate).await;
        assert_eq!(scanned(&**instance).await.get(&RowId::Key(key.digest)), Some(&Row::Key(key.clone())));
    }
}

pub async fn scan_during_writes_misses_no_existing_row(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let mut present = Vec::new();
    for i in 0..30 {
        present.push(with_key(&*instances[0], &mut acme, &format!("System {i}")).await);
    }
    let keys: Vec<_> = present.iter().map(|(_, key)| key.clone()).collect();
    let mut revocations = present.iter().map(|(system, key)| acme.revoke(system, key)).collect::<Vec<_>>();
    let late = revocations.split_off(10);
    for (_, _, revoke) in revocations {
        commit(&*instances[0], revoke).await;
    }

    let revoking = commit_concurrently(&instances, late.into_iter().map(|(_, _, revoke)| revoke).collect());
    let scanning = async {
        let mut scans = Vec::new();
        for instance in instances.iter().cycle().take(6) {
            scans.push(scanned(&**instance).await);
        }
        scans
    };
    let (revoked, scans) = futures::join!(revoking, scanning);
    assert!(revoked.iter().all(Result::is_ok), "{revoked:?}");

    for scan in scans {
        for (place, key) in keys.iter().enumerate() {
            let found = scan.get(&RowId::Key(key.digest)).expect("the key existed before the scan");
            let revoked = Row::Key(key.ended(KeyEnd::Revoked, acme.now));
            assert!(*found == revoked || place >= 10 && *found == Row::Key(key.clone()), "{found:?}");
        }
    }
}

pub async fn scan_of_systems_returns_one_tenants_systems_and_log_head(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    assert_eq!(listed(&*store, &acme.id).await, (0, vec![]));
    let others = created(&*store, &mut bolt, "Of another tenant").await;
    assert_eq!(listed(&*store, &acme.id).await, (0, vec![]));

    let mut expected = Vec::new();
    for name in ["Straße", "ABC", "gone", "日本語"] {
        expected.push(created(&*store, &mut acme, name).await);
    }
    let delete = acme.delete(&expected.remove(2));
    commit(&*store, delete).await;
    acme.now = acme.now.plus(SECOND);
    let (renamed, rename) = acme.rename(&expected[0], "ÉTÉ 1");
    commit(&*store, rename).await;
    expected[0] = renamed;
    assert_eq!(listed(&*store, &acme.id).await, (6, by_listed_id(&expected)));
    assert_eq!(listed(&*store, &bolt.id).await, (1, by_listed_id(&[others])));

    let note = acme.note(AuditAction::SystemCreated);
    let rotating = rotating_systems(&mut acme);
    commit(&*store, rotating.iter().fold(note, |batch, system| batch.insert(Row::System(system.clone())))).await;
    expected.extend(rotating);
    assert_eq!(listed(&*store, &acme.id).await, (7, by_listed_id(&expected)));

    let note = acme.note(AuditAction::SystemCreated);
    let many = (0..MANY).map(|i| acme.system(&format!("System {i}"))).collect::<Vec<_>>();
    commit(&*store, many.iter().fold(note, |batch, system| batch.insert(Row::System(system.clone())))).await;
    expected.extend(many);
    assert_eq!(listed(&*store, &acme.id).await, (8, by_listed_id(&expected)));
    drop(store.scan_systems(&acme.id).await.unwrap());
}

/// Systems that differ in all members that lists are filtered and sorted by.
fn rotating_systems(acme: &mut Tenant) -> Vec<System> {
    let keyed = acme.system("Keyed");
    let (keyed, _, _) = acme.generate(&keyed);
    let key = keyed.key.clone().expect("a key");
    let ada = AuditActor::operator(&acme.operator("ada"));
    let later = |hours: u32| Some(START.plus(SECOND * 3600 * hours));
    let first = CurrentKey { generated_at: None, generated_by: None, ..key.clone() };
    let second = CurrentKey { generated_at: later(1), generated_by: Some(ada), expires_at: later(9), ..key };
    let system = |acme: &mut Tenant, name: &str| System { key: None, ..acme.system(name) };
    vec![
        System { key: Some(first.clone()), ..system(acme, "Of release 0.1") },
        System { retiring: Some(first.clone()), ..system(acme, "Only retiring") },
        System { key: Some(second.clone()), retiring: Some(first), ..system(acme, "Rotating") },
        System {
            key: Some(second),
            description: Description::parse("Sends INVOICES\nto Straße").expect("a description"),
            external_id: Some(external_id("Cus_Straße")),
            suspended: Some(Suspension { at: START, reason: None }),
            ..system(acme, "Suspended")
        },
        keyed,
    ]
}

pub async fn scan_of_systems_sees_earlier_commits(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let mut system = created(&*instances[0], &mut acme, "Billing").await;

    for (round, instance) in (2..).zip(instances.iter().cycle().skip(1).take(10)) {
        let rename;
        (system, rename) = acme.rename(&system, &format!("Billing {round}"));
        commit(&*instances[0], rename).await;
        assert_eq!(listed(&**instance, &acme.id).await, (round, by_listed_id(std::slice::from_ref(&system))));
    }
}

async fn listed(store: &dyn Store, tenant: &TenantId) -> (u64, Vec<ListedSystem>) {
    let (number, systems) = store.scan_systems(tenant).await.unwrap();
    let mut systems: Vec<_> = systems.try_collect().await.unwrap();
    systems.sort_by_key(|system| system.id);
    (number, systems)
}

fn by_listed_id(systems: &[System]) -> Vec<ListedSystem> {
    let mut listed: Vec<_> = systems.iter().map(ListedSystem::from).collect();
    listed.sort_by_key(|system| system.id);
    listed
}

async fn scanned(store: &dyn Store) -> HashMap<RowId, Row> {
    let rows = store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    by_id(rows.into_iter().map(|row| match row {
        StoredRow::Readable(row) => row,
        StoredRow::Unreadable(id) => panic!("{id:?} cannot be read"),
    }))
}

fn by_id(rows: impl IntoIterator<Item = Row>) -> HashMap<RowId, Row> {
    rows.into_iter().map(|row| (row.id(), row)).collect()
}
