//! Leases: each incarnation has the lease that it put last, and the feed reports it in order.

use std::sync::Arc;
use std::time::Duration;

use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Change, Row, RowId, Write};
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::store::{Conflict, Store};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Factory;
use super::fixtures::*;

pub async fn lease_is_listed_as_last_put(factory: &dyn Factory) {
    let instances = instances(factory).await;
    assert_eq!(instances[0].list_leases().await.unwrap(), []);

    let (mut one, mut other) = (lease(1), lease(2));
    for (round, instance) in instances.iter().cycle().take(4).enumerate() {
        one = next(one, LogTime::new(round as u64));
        other = Lease { requests_ack: !other.requests_ack, ..next(other, LogTime::new(u64::MAX - round as u64)) };
        for lease in [one, other] {
            instance.put_lease(&lease).await.unwrap();
        }
        for instance in &instances {
            assert_eq!(listed(&**instance).await, in_order(vec![one, other]));
        }
    }
}

pub async fn lease_is_listed_as_of_any_position_where_the_feed_has_delivered_it(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut follower = follow(&*instances[0], None).await;
    let mut one = lease(1);
    for instance in instances.iter().cycle().take(4) {
        one = next(one, LogTime::default());
        instance.put_lease(&one).await.unwrap();
        let position = follower.next().await.at;
        for instance in &instances {
            assert_eq!(instance.list_leases_at(position).await.unwrap(), [one]);
        }
    }
    instances[0].delete_lease(&one).await.unwrap();
    let position = follower.next().await.at;
    for instance in &instances {
        assert_eq!(instance.list_leases_at(position).await.unwrap(), []);
    }
}

pub async fn renewed_lease_is_not_deleted(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let (store, other) = (&instances[0], &instances[instances.len() - 1]);
    let (first, bystander) = (lease(1), lease(2));
    let second = next(first, first.applied);
    for lease in [first, bystander, second] {
        store.put_lease(&lease).await.unwrap();
    }

    assert!(!other.delete_lease(&first).await.unwrap());
    assert!(!other.delete_lease(&lease(3)).await.unwrap(), "no such lease");
    assert_eq!(listed(&**store).await, in_order(vec![second, bystander]));

    assert!(other.delete_lease(&second).await.unwrap());
    assert!(!other.delete_lease(&second).await.unwrap(), "already deleted");
    assert_eq!(listed(&**store).await, [bystander]);

    store.put_lease(&second).await.unwrap();
    assert_eq!(listed(&**store).await, in_order(vec![second, bystander]), "a deleted lease can be put again");
}

pub async fn one_of_20_concurrent_deletions_of_a_lease_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    instances[0].put_lease(&lease(1)).await.unwrap();

    let delete = |store: Arc<dyn Store>, lease| async move { store.delete_lease(&lease).await.unwrap() };
    let answers = concurrently(&instances, vec![lease(1); 20], delete).await;

    assert_eq!(answers.into_iter().filter(|deleted| *deleted).count(), 1);
}

pub async fn each_lease_is_a_separate_change_without_an_entry(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut follower = follow(&*store, None).await;
    let (first, second) = (lease(1), next(lease(1), LogTime::new(u64::MAX)));

    store.put_lease(&first).await.unwrap();
    store.put_lease(&second).await.unwrap();
    assert!(!store.delete_lease(&first).await.unwrap());
    assert!(store.delete_lease(&second).await.unwrap());
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;

    let changes = follower.take(3).await;
    let put = |lease| vec![Write::Put(Row::Lease(lease))];
    let writes: Vec<_> = changes.iter().map(|change| change.writes.clone()).collect();
    assert_eq!(writes, [put(first), put(second), vec![Write::Delete(RowId::Lease(first.incarnation))]]);
    assert!(changes.iter().all(|change| change.entry.is_none()));
    assert_eq!(follower.next_entry().await, entry);

    let mut resumed = follow(&*store, Some(&changes[1].position)).await;
    assert_eq!(resumed.next().await.writes, writes[2]);
}

pub async fn lease_put_after_a_commit_follows_it_in_the_feed(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt"].map(tenant);
    let mut follower = follow(&*instances[0], None).await;
    let mut probe = lease(1);

    for (i, instance) in instances.iter().cycle().take(20).enumerate() {
        let note = tenants[i % 2].note(AuditAction::SignedIn);
        let entry = commit(&**instance, note).await;
        probe = next(probe, LogTime::default());
        instances[i / 2 % instances.len()].put_lease(&probe).await.unwrap();

        let changes = follower.take(2).await;
        assert_eq!(changes[0].entry.as_deref(), Some(&entry));
        assert_eq!(changes[1].writes, [Write::Put(Row::Lease(probe))]);
        assert!(changes[0].at < changes[1].at);
    }
}

pub async fn times_increase_along_the_feed_and_are_equal_for_all_followers(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt", "cube"].map(tenant);
    let mut followers = Vec::new();
    for instance in &instances {
        followers.push(follow(&**instance, None).await);
    }

    let batches = (0..30).map(|i| {
        let acme = &mut tenants[i % 3];
        let system = acme.system(&format!("System {i}"));
        // Batches of several writes, which have one time each.
        let operator = acme.operator(&format!("operator{i}"));
        acme.create(&system).insert(Row::Operator(operator))
    });
    let batches = batches.collect();
    let leases: Vec<_> = (0..30).map(lease).collect();
    let putting =
        concurrently(&instances, leases, |store, lease| async move { store.put_lease(&lease).await.unwrap() });
    futures::join!(commit_concurrently(&instances, batches), putting);

    let mut reported = Vec::new();
    for follower in &mut followers {
        let changes = follower.take(60).await;
        assert!(changes.is_sorted_by(|one, next| one.at < next.at), "{:?}", times(&changes));
        reported.push(times(&changes));
        let mut resumed = follow(&*instances[0], Some(&changes[29].position)).await;
        assert_eq!(times(&resumed.take(30).await), times(&changes[30..]));
    }
    assert!(reported.iter().all(|times| *times == reported[0]));
}

pub async fn batch_cannot_write_a_lease(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let put = acme.note(AuditAction::SignedIn).insert(Row::Lease(lease(1)));
    assert_eq!(refused(&*store, put).await, Conflict::Row);

    store.put_lease(&lease(1)).await.unwrap();
    let replace = acme.note(AuditAction::SignedIn).replace(Row::Lease(next(lease(1), LogTime::default())));
    assert_eq!(refused(&*store, replace).await, Conflict::Row);
    let delete = acme.note(AuditAction::SignedIn).delete(&Row::Lease(lease(1)));
    assert_eq!(refused(&*store, delete).await, Conflict::Row);
    assert_eq!(listed(&*store).await, [lease(1)]);
}

/// The first lease of an incarnation, which the seed determines.
fn lease(seed: u64) -> Lease {
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(seed));
    let length = (!seed.is_multiple_of(3)).then(|| Duration::from_millis(seed * 1500));
    Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack: false, length }
}

fn next(lease: Lease, applied: LogTime) -> Lease {
    Lease { sequence: lease.sequence + 1, applied, ..lease }
}

fn in_order(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|lease| lease.incarnation);
    leases
}

async fn listed(store: &dyn Store) -> Vec<Lease> {
    in_order(store.list_leases().await.unwrap())
}

fn times(changes: &[Change]) -> Vec<LogTime> {
    changes.iter().map(|change| change.at).collect()
}
