//! Reopening: the next process finds every acknowledged write and continues from there.

use keymark::domain::audit::AuditAction;
use keymark::store::Conflict;
use std::sync::Arc;

use super::Factory;
use super::audit::assert_chained;
use super::fixtures::*;
use super::keys::with_key;
use super::operators::{added, sessions, signed_in};
use super::systems::created;

pub async fn acknowledged_writes_survive(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;
    let (other, old_key) = with_key(&*store, &mut acme, "Other").await;
    let (other, revoked, batch) = acme.revoke(&other, &old_key);
    commit(&*store, batch).await;
    let gone = created(&*store, &mut acme, "Gone").await;
    let delete = acme.delete(&gone);
    commit(&*store, delete).await;
    let ada = added(&*store, &mut acme, "ada").await;
    let (phone, laptop) = (signed_in(&*store, &mut acme, &ada).await, signed_in(&*store, &mut acme, &ada).await);
    let sign_out = acme.sign_out(&phone);
    commit(&*store, sign_out).await;
    assert!(store.replace_setting("name", None, "value").await.unwrap());
    let marked = acme.note(AuditAction::OperatorAdded).once("first start");
    let last = commit(&*store, marked).await;
    let whole_log = log(&*store, &acme.id).await;

    let store = factory.reopen(store).await;

    assert_eq!(systems(&*store, &acme.id).await, [billing, other]);
    assert_eq!(store.find_key(&[key.digest]).await.unwrap(), Some(key));
    assert_eq!(store.find_key(&[revoked.digest]).await.unwrap(), Some(revoked));
    assert_eq!(store.find_system(&acme.id, gone.id).await.unwrap(), None);
    assert_eq!(store.list_operators(None).await.unwrap(), std::slice::from_ref(&ada));
    assert_eq!(sessions(&*store, &ada).await, [laptop]);
    assert_eq!(store.find_setting("name").await.unwrap().as_deref(), Some("value"));
    assert!(store.has_marker("first start").await.unwrap());
    assert_eq!(store.audit_head(&acme.id).await.unwrap(), last.head());
    assert_eq!(log(&*store, &acme.id).await, whole_log);
    assert_eq!(store.list_tenants().await.unwrap(), [acme.id]);
}

pub async fn log_and_conditions_continue(factory: &dyn Factory) {
    let mut store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    added(&*store, &mut acme, "ada").await;
    let marked = acme.note(AuditAction::OperatorAdded).once("first start");
    commit(&*store, marked).await;

    for round in 0..3 {
        store = factory.reopen(store).await;

        let (twin, namesake) = (acme.system("BILLING"), acme.operator("ada"));
        let create = acme.create(&twin);
        assert_eq!(refused(&*store, create).await, Conflict::NameTaken);
        let add = acme.add(&namesake);
        assert_eq!(refused(&*store, add).await, Conflict::UsernameTaken);
        let again = acme.create(&billing);
        assert_eq!(refused(&*store, again).await, Conflict::Row);
        let marked = acme.note(AuditAction::OperatorAdded).once("first start");
        assert_eq!(refused(&*store, marked).await, Conflict::Marker);
        created(&*store, &mut acme, &format!("System {round}")).await;
    }

    let entries = log(&*store, &acme.id).await;
    assert_eq!(entries.len(), 6);
    assert_chained(&entries);
}

pub async fn feed_resumes_from_an_earlier_position(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut follower = follow(&*store, None).await;
    let mut entries = Vec::new();
    for _ in 0..3 {
        let note = acme.note(AuditAction::SignedIn);
        entries.push(commit(&*store, note).await);
    }
    let read = follower.take(1).await;
    drop(follower);

    let store = factory.reopen(store).await;
    let mut resumed = follow(&*store, Some(&read[0].position)).await;
    let mut from_now = follow(&*store, None).await;
    let note = acme.note(AuditAction::SignedOut);
    entries.push(commit(&*store, note).await);

    let rest: Vec<_> =
        resumed.take(3).await.into_iter().map(|change| Arc::unwrap_or_clone(change.entry.unwrap())).collect();
    assert_eq!(rest, entries[1..]);
    let first = from_now.next().await;
    assert_eq!(first.entry.as_deref(), Some(&entries[3]));

    drop((resumed, from_now));
    let store = factory.reopen(store).await;
    let mut resumed = follow(&*store, Some(&first.position)).await;
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;
    assert_eq!(resumed.next_entry().await, entry);
}
