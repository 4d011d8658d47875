//! Keys: at most one active key per system, found by its digest and kept after revocation until it is purged.

use std::time::Duration;

use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Row, RowId, Write};
use keymark::domain::keys::Key;
use keymark::domain::systems::System;
use keymark::store::{Conflict, Purged, Store};

use super::Factory;
use super::fixtures::*;
use super::systems::created;

pub async fn key_is_found_by_one_of_several_digests(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;
    let (_, other) = with_key(&*store, &mut acme, "Other").await;

    let unknown = [acme.digest(), acme.digest()];

    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), Some(billing));
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(key.clone()));
    assert_eq!(store.find_key(&[unknown[0], key.digest, unknown[1]]).await.unwrap(), Some(key));
    assert_eq!(store.find_key(&[other.digest, unknown[0]]).await.unwrap(), Some(other));
    assert_eq!(store.find_key(&unknown).await.unwrap(), None);
    assert_eq!(store.find_key(&[]).await.unwrap(), None);
}

pub async fn one_of_50_concurrent_generates_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let billing = created(&*instances[0], &mut acme, "Billing").await;
    let attempts: Vec<_> = (0..50).map(|_| acme.generate(&billing)).collect();

    let batches = attempts.iter().map(|(_, _, batch)| batch.clone()).collect();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::Row; 49]);
    let (with_key, ..) = &attempts[winner];
    for store in &instances {
        assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap().as_ref(), Some(with_key));
        for (which, (_, key, _)) in attempts.iter().enumerate() {
            let good = (which == winner).then(|| key.clone());
            assert_eq!(store.find_key(&[key.digest]).await.unwrap(), good);
        }
    }
}

pub async fn digest_is_used_once(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (_, key) = with_key(&*store, &mut acme, "Billing").await;
    let other = created(&*store, &mut acme, "Other").await;

    let (_, _, mut batch) = acme.generate(&other);
    batch.writes.pop();
    let batch = batch.insert(Row::Key(Key { system: other.id, ..key }));

    assert_eq!(refused(&*store, batch).await, Conflict::Row);
}

pub async fn renamed_system_renames_its_key(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;

    let (payments, renamed, batch) = acme.rename_with_key(&billing, &key, "Payments");
    commit(&*store, batch).await;

    assert_eq!((renamed.system_name.as_str(), renamed.revision), ("Payments", 2));
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(renamed));
    let (_, _, stale) = acme.rename_with_key(&payments, &key, "Invoices");
    assert_eq!(refused(&*store, stale).await, Conflict::Row);
}

pub async fn key_has_the_external_id_of_its_system(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;

    let (identified, batch) = acme.identify(&billing, Some("cus_1"));
    let key = key.in_system(&identified);
    commit(&*store, batch.replace(Row::Key(key.clone()))).await;

    assert_eq!(key.external_id, Some(external_id("cus_1")));
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(key.clone()));
    let (without, batch) = acme.identify(&identified, None);
    commit(&*store, batch.replace(Row::Key(key.in_system(&without)))).await;
    assert_eq!(store.find_key(&[key.digest]).await.unwrap().unwrap().external_id, None);
}

pub async fn revoked_key_is_kept_and_replaced_by_a_new_one(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;
    acme.now = acme.now.plus(SECOND);

    let (without, revoked, batch) = acme.revoke(&billing, &key);
    commit(&*store, batch).await;
    assert_eq!(revoked.revoked_at, Some(START.plus(SECOND)));
    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), Some(without.clone()));
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(revoked.clone()));

    let (again, next, batch) = acme.generate(&without);
    commit(&*store, batch).await;
    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), Some(again));
    assert_eq!(store.find_key(&[next.digest]).await.unwrap(), Some(next));
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(revoked));
}

pub async fn key_of_a_deleted_system_is_kept(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;

    let (revoked, batch) = acme.delete_with_key(&billing, &key);
    commit(&*store, batch).await;

    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), None);
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(revoked));
}

pub async fn keys_revoked_before_the_given_time_are_purged(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (_, good) = with_key(&*store, &mut acme, "Good").await;
    let mut revoked = Vec::new();
    for millis in [0, 999, 1000, 1001] {
        acme.now = START;
        let (system, key) = with_key(&*store, &mut acme, &format!("Revoked {millis}")).await;
        acme.now = START.plus(Duration::from_millis(millis));
        let (_, key, batch) = acme.revoke(&system, &key);
        commit(&*store, batch).await;
        revoked.push(key);
    }

    let purged = store.purge(START, START.plus(SECOND)).await.unwrap();

    assert_eq!(purged, Purged { keys: 2, sessions: 0 });
    assert_eq!(store.find_key(&[revoked[0].digest]).await.unwrap(), None);
    assert_eq!(store.find_key(&[revoked[1].digest]).await.unwrap(), None);
    for kept in [good, revoked.remove(2), revoked.remove(2)] {
        assert_eq!(store.find_key(&[kept.digest]).await.unwrap(), Some(kept));
    }
    assert_eq!(store.purge(START, START.plus(SECOND)).await.unwrap(), Purged::default());
}

pub async fn purge_is_in_the_feed_but_not_in_the_log(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;
    let (billing, revoked, batch) = acme.revoke(&billing, &key);
    commit(&*store, batch).await;
    let (billing, key, batch) = acme.generate(&billing);
    commit(&*store, batch).await;
    let (_, also_revoked, batch) = acme.revoke(&billing, &key);
    commit(&*store, batch).await;
    let mut follower = follow(&*store, None).await;
    let note = acme.note(AuditAction::SignedIn);
    let head = commit(&*store, note).await.head();
    let before = follower.next().await.at;

    store.purge(START, START.plus(SECOND)).await.unwrap();

    assert_eq!(store.audit_head(&acme.id).await.unwrap(), head);
    let (mut reported, mut last) = (Vec::new(), before);
    while reported.len() < 2 {
        let change = follower.next().await;
        assert_eq!(change.entry, None);
        assert!(before < change.at && last <= change.at);
        last = change.at;
        reported.extend(change.writes);
    }
    let removed = [&revoked, &also_revoked].map(|key| Write::Delete(RowId::Key(key.digest)));
    assert_eq!(sorted(&reported), sorted(&removed));
    let note = acme.note(AuditAction::SignedOut);
    commit(&*store, note).await;
    assert!(last < follower.next().await.at);
}

/// A system of this name with its first key.
pub async fn with_key(store: &dyn Store, tenant: &mut Tenant, name: &str) -> (System, Key) {
    let system = created(store, tenant, name).await;
    let (system, key, batch) = tenant.generate(&system);
    commit(store, batch).await;
    (system, key)
}
