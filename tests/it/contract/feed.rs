//! The feed: every commit once, in each tenant's order, from any position that it still holds.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Batch, Change, Row};
use keymark::domain::ids::TenantId;
use keymark::domain::permissions::Permissions;
use keymark::store::{Conflict, Quota, StoreError};

use super::Factory;
use super::fixtures::*;
use super::systems::created;

pub async fn feed_from_now_omits_earlier_changes(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    created(&*store, &mut acme, "Before").await;

    let mut follower = follow(&*store, None).await;
    let after = acme.system("After");
    let create = acme.create(&after);
    let entry = commit(&*store, create).await;

    assert_eq!(follower.next_entry().await, entry);
}

pub async fn change_carries_whole_rows_and_its_entry(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut follower = follow(&*store, None).await;

    for batch in every_kind_of_batch(&mut acme) {
        let entry = commit(&*store, batch.clone()).await;
        let change = follower.next().await;
        assert_eq!(change.entry.as_deref(), Some(&entry));
        assert_eq!(sorted(&change.writes), writes_of(&batch));
    }
}

pub async fn feed_resumes_after_each_position(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut follower = follow(&*store, None).await;
    let batches = every_kind_of_batch(&mut acme);
    for batch in &batches {
        commit(&*store, batch.clone()).await;
    }
    let changes = follower.take(batches.len()).await;

    for (place, change) in changes.iter().enumerate() {
        let rest = &changes[place + 1..];
        let mut resumed = follow(&*store, Some(&change.position)).await;
        assert_same(&resumed.take(rest.len()).await, rest);
    }
    let mut resumed = follow(&*store, Some(&changes[changes.len() - 1].position)).await;
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;
    assert_eq!(resumed.next_entry().await, entry, "the last position is followed by the next commit");
}

pub async fn followers_are_independent(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (mut one, mut other) = (follow(&*store, None).await, follow(&*store, None).await);
    let mut entries = Vec::new();
    for i in 0..10 {
        if i == 5 {
            drop(follow(&*store, None).await);
        }
        let note = acme.note(AuditAction::SignedIn);
        entries.push(commit(&*store, note).await);
        assert_eq!(one.next_entry().await, entries[i]);
    }

    let late = other.take(10).await;
    assert_eq!(late.into_iter().map(|change| Arc::unwrap_or_clone(change.entry.unwrap())).collect::<Vec<_>>(), entries);
}

pub async fn refused_batch_is_not_in_the_feed(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    let mut follower = follow(&*store, None).await;

    let (one, twin) = (acme.system("One"), acme.system("BILLING"));
    let refused_at_its_end = acme.create(&one).insert(Row::System(twin));
    assert_eq!(refused(&*store, refused_at_its_end).await, Conflict::NameTaken);
    let again = acme.create(&billing);
    assert_eq!(refused(&*store, again).await, Conflict::Row);
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;

    let change = follower.next().await;
    assert_eq!((change.entry.as_deref(), change.writes), (Some(&entry), vec![]));
}

pub async fn settings_and_tokens_are_not_in_the_feed(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut follower = follow(&*store, None).await;

    let quota = Quota { burst: 1, interval: SECOND };
    store.take_token("bucket", quota, START).await.unwrap().unwrap();
    store.return_token("bucket", quota).await.unwrap();
    assert!(store.replace_setting("name", None, "value").await.unwrap());
    store.purge(START, START).await.unwrap();
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;

    assert_eq!(follower.next_entry().await, entry);
}

pub async fn feed_keeps_each_tenants_order_of_concurrent_commits(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt", "cube"].map(tenant);
    let mut follower = follow(&*instances[0], None).await;

    let batches = (0..50).map(|i| created_by(&mut tenants[i % 3], i)).collect();
    let results = commit_concurrently(&instances, batches).await;
    let accepted = results.into_iter().map(|result| result.unwrap().event.id);
    let mut accepted: Vec<_> = accepted.collect();

    let changes = follower.take(50).await;
    assert_gapless(&changes, &mut HashMap::new());
    let mut shown: Vec<_> = changes.into_iter().map(|change| change.entry.unwrap().event.id).collect();
    accepted.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, accepted);
}

pub async fn feed_resumes_during_concurrent_commits(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt", "cube"].map(tenant);
    let mut follower = follow(&*instances[0], None).await;
    let batches = (0..50).map(|i| created_by(&mut tenants[i % 3], i)).collect();
    let committing = commit_concurrently(&instances, batches);

    // Each follower reads five changes; the next one resumes from there on the next instance.
    let following = async {
        let mut last_numbers = HashMap::new();
        for instance in instances.iter().cycle().skip(1).take(10) {
            let changes = follower.take(5).await;
            assert_gapless(&changes, &mut last_numbers);
            follower = follow(&**instance, Some(&changes[4].position)).await;
        }
        last_numbers
    };
    let (results, last_numbers) = futures::join!(committing, following);

    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let expected = HashMap::from([("acme", 17), ("bolt", 17), ("cube", 16)].map(|(name, n)| (tenant_id(name), n)));
    assert_eq!(last_numbers, expected);
}

pub async fn every_instance_receives_the_commits_of_all(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let mut followers = Vec::new();
    for instance in &instances {
        followers.push(follow(&**instance, None).await);
    }

    let mut entries = Vec::new();
    for instance in instances.iter().cycle().take(4) {
        let note = acme.note(AuditAction::SignedIn);
        entries.push(commit(&**instance, note).await);
    }

    for follower in &mut followers {
        for entry in &entries {
            assert_eq!(follower.next_entry().await, *entry);
        }
    }
}

pub async fn position_that_is_too_old_is_refused(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    created(&*store, &mut acme, "Billing").await;
    let too_old = factory.position_too_old(&*store).await;

    let error = match store.watch(Some(&too_old), None).await {
        Err(error) => error,
        Ok(mut feed) => {
            let error = within_a_minute(feed.next()).await.expect("the feed reports why it ends").unwrap_err();
            assert!(within_a_minute(feed.next()).await.is_none(), "an error ends the feed");
            error
        }
    };
    assert!(matches!(error, StoreError::PositionTooOld), "{error}");

    let mut follower = follow(&*store, None).await;
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;
    assert_eq!(follower.next_entry().await, entry, "a new follower starts at the end");
}

/// Consecutive batches with every kind of write.
fn every_kind_of_batch(acme: &mut Tenant) -> Vec<Batch> {
    let billing = acme.system("Billing");
    let create = acme.create(&billing);
    let (billing, key, generate) = acme.generate(&billing);
    let (billing, key, rename) = acme.rename_with_key(&billing, &key, "Payments");
    let (billing, _, revoke) = acme.revoke(&billing, &key);
    let (billing, key, generate_again) = acme.generate(&billing);
    let (_, delete) = acme.delete_with_key(&billing, &key);
    let ada = acme.operator("ada");
    let add = acme.add(&ada);
    let (ada, permit) = acme.permit(&ada, Permissions::NONE);
    let (phone, laptop) = (acme.session(&ada), acme.session(&ada));
    let (sign_in, sign_in_again) = (acme.sign_in(&phone), acme.sign_in(&laptop));
    let sign_out = acme.sign_out(&phone);
    let remove = acme.remove(&ada, &[laptop]);
    let note = acme.note(AuditAction::PermissionRefused);
    vec![
        create,
        generate,
        rename,
        revoke,
        generate_again,
        delete,
        add,
        permit,
        sign_in,
        sign_in_again,
        sign_out,
        remove,
        note,
    ]
}

fn created_by(tenant: &mut Tenant, i: usize) -> Batch {
    let system = tenant.system(&format!("System {i}"));
    tenant.create(&system)
}

fn assert_same(changes: &[Change], expected: &[Change]) {
    let reported = |changes: &[Change]| -> Vec<_> {
        changes.iter().map(|change| (sorted(&change.writes), change.entry.clone())).collect()
    };
    assert_eq!(reported(changes), reported(expected));
}

/// Checks that each tenant's numbers continue from `last_numbers` without a gap.
fn assert_gapless(changes: &[Change], last_numbers: &mut HashMap<TenantId, u64>) {
    for change in changes {
        let entry = change.entry.as_ref().expect("the change is a batch");
        let last = last_numbers.entry(entry.tenant.clone()).or_default();
        assert_eq!(entry.number, *last + 1);
        *last = entry.number;
    }
}
