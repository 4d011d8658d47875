//! Use of keys: each flush is added once, and read within its tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keymark::domain::audit::AuditAction;
use keymark::domain::ids::{SystemId, TenantId};
use keymark::domain::keys::Mark;
use keymark::domain::leases::Incarnation;
use keymark::domain::time::Timestamp;
use keymark::domain::usage::{
    BucketCounts, Counts, Flush, KeySummary, KeyUse, MAX_DAYS, MAX_HOURS, MAX_KEYS_PER_SYSTEM, Resolution, UsageRange,
    UsageRetention, UsageSummary,
};
use keymark::store::Store;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Factory;
use super::fixtures::*;
use super::systems::created;

const HOUR: Duration = Duration::from_hours(1);
const RETENTION: UsageRetention = UsageRetention { hours: MAX_HOURS, days: MAX_DAYS };

/// A process that flushes.
pub struct Instance {
    id: Incarnation,
    number: u64,
}

impl Instance {
    pub fn new(seed: u64) -> Self {
        Self { id: Incarnation::generate(&mut StdRng::seed_from_u64(seed)), number: 0 }
    }

    pub fn flush(&mut self, at: Timestamp, uses: Vec<KeyUse>) -> Flush {
        self.number += 1;
        Flush { instance: self.id, number: self.number, at, uses }
    }
}

fn mark(text: &str) -> Mark {
    text.to_owned().try_into().expect("four characters")
}

pub fn used(tenant: &Tenant, system: SystemId, text: &str, accepted: u64, at: Timestamp) -> KeyUse {
    KeyUse {
        tenant: tenant.id.clone(),
        system,
        mark: mark(text),
        counts: Counts { accepted, refused: 0 },
        last_used_at: Some(at),
        last_refused_at: None,
    }
}

fn refused(tenant: &Tenant, system: SystemId, text: &str, refused: u64, at: Timestamp) -> KeyUse {
    let counts = Counts { accepted: 0, refused };
    KeyUse { counts, last_used_at: None, last_refused_at: Some(at), ..used(tenant, system, text, 0, at) }
}

fn range(resolution: Resolution, from: Timestamp, now: Timestamp) -> UsageRange {
    UsageRange::new(resolution, Some(from), None, now, RETENTION).expect("a range within its bounds")
}

/// Accepted and refused of all keys since `from`, by hour or day.
async fn series(
    store: &dyn Store,
    tenant: &TenantId,
    system: SystemId,
    range: UsageRange,
    only: Option<&str>,
) -> Vec<(u64, u64)> {
    let counted = store.find_usage(tenant, system, &range).await.unwrap();
    let series = range.series(&counted, only.map(mark));
    series.into_iter().map(|(_, Counts { accepted, refused })| (accepted, refused)).collect()
}

async fn summary(store: &dyn Store, tenant: &Tenant, system: SystemId) -> Option<UsageSummary> {
    let mut found = store.find_usage_summaries(&tenant.id, &[system]).await.unwrap();
    assert!(found.len() <= 1);
    found.pop()
}

pub async fn uses_add_up_by_hour_day_and_key(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let system = acme.system("Billing").id;
    // 22:13 of a day, and 00:13 of the next.
    let (before, after) = (START, START.plus(2 * HOUR));
    for (n, store) in instances.iter().enumerate() {
        let mut instance = Instance::new(n as u64);
        for uses in [
            vec![used(&acme, system, "aaaa", 3, before), refused(&acme, system, "bbbb", 2, before)],
            vec![used(&acme, system, "aaaa", 5, after)],
            vec![used(&acme, system, "aaaa", 1, before)],
        ] {
            store.add_usage(&instance.flush(after, uses)).await.unwrap();
        }
    }

    let n = instances.len() as u64;
    for store in &instances {
        let hours = range(Resolution::Hour, before, after);
        assert_eq!(series(&**store, &acme.id, system, hours, None).await, [(4 * n, 2 * n), (0, 0), (5 * n, 0)]);
        assert_eq!(series(&**store, &acme.id, system, hours, Some("bbbb")).await, [(0, 2 * n), (0, 0), (0, 0)]);
        let days = range(Resolution::Day, before, after);
        assert_eq!(series(&**store, &acme.id, system, days, None).await, [(4 * n, 2 * n), (5 * n, 0)]);
        let last = range(Resolution::Hour, after, after.plus(HOUR));
        assert_eq!(series(&**store, &acme.id, system, last, None).await, [(5 * n, 0), (0, 0)]);

        let summary = summary(&**store, &acme, system).await.unwrap();
        let UsageSummary { system: about, written_at, last_used_at, .. } = summary;
        assert_eq!((about, written_at, last_used_at), (system, after, Some(after)));
        let key = |last_used_at, last_refused_at, refusals| KeySummary { last_used_at, last_refused_at, refusals };
        let keys = [(mark("aaaa"), key(Some(after), None, 0)), (mark("bbbb"), key(None, Some(before), 2 * n))];
        assert_eq!(summary.keys, HashMap::from(keys));
    }
}

pub async fn days_of_400_days_are_read(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let system = acme.system("Billing").id;
    let mut instance = Instance::new(1);
    let day = |n: u32| START.plus(24 * HOUR * n);
    let uses = (0..400).map(|n| used(&acme, system, "aaaa", u64::from(n) + 1, day(n))).collect();
    store.add_usage(&instance.flush(day(400), uses)).await.unwrap();

    let found = series(&*store, &acme.id, system, range(Resolution::Day, START, day(399).plus(HOUR)), None).await;
    assert_eq!(found, (1..=400).map(|n| (n, 0)).collect::<Vec<_>>());
}

pub async fn repeated_flush_is_added_once(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let system = acme.system("Billing").id;
    let mut instance = Instance::new(1);
    let first = instance.flush(START, vec![used(&acme, system, "aaaa", 1, START)]);
    let second = instance.flush(START, vec![used(&acme, system, "aaaa", 10, START)]);
    for flush in [&first, &first, &second, &first, &second] {
        store.add_usage(flush).await.unwrap();
    }
    let other = Instance::new(2).flush(START, vec![used(&acme, system, "aaaa", 100, START)]);
    store.add_usage(&other).await.unwrap();

    let store = factory.reopen(store).await;
    store.add_usage(&second).await.unwrap();
    let hour = range(Resolution::Hour, START, START.plus(Duration::from_mins(1)));
    assert_eq!(series(&*store, &acme.id, system, hour, None).await, [(111, 0)]);
}

pub async fn concurrent_flushes_about_the_same_systems_all_count(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let systems: Vec<_> = (0..10).map(|n| acme.system(&format!("System {n}")).id).collect();
    let flushes = (0..12).map(|seed| {
        // In different orders, so that each waits for another.
        let mut uses: Vec<_> = systems.iter().map(|system| used(&acme, *system, "aaaa", 1, START)).collect();
        uses.rotate_left(seed as usize % 10);
        Instance::new(seed).flush(START, uses)
    });

    // A flush that gives up under contention is repeated, as its instance would do.
    let add = |store: Arc<dyn Store>, flush: Flush| async move { while store.add_usage(&flush).await.is_err() {} };
    concurrently(&instances, flushes.collect(), add).await;

    let hour = range(Resolution::Hour, START, START.plus(Duration::from_mins(1)));
    for system in systems {
        assert_eq!(series(&*instances[0], &acme.id, system, hour, None).await, [(12, 0)]);
    }
}

pub async fn use_of_another_tenant_is_not_read(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, bolt) = (tenant("acme"), tenant("bolt"));
    let system = acme.system("Billing").id;
    let flush = Instance::new(1).flush(START, vec![used(&acme, system, "aaaa", 1, START)]);
    store.add_usage(&flush).await.unwrap();

    let hour = range(Resolution::Hour, START, START.plus(Duration::from_mins(1)));
    assert_eq!(store.find_usage(&bolt.id, system, &hour).await.unwrap(), [] as [BucketCounts; 0]);
    assert_eq!(summary(&*store, &bolt, system).await, None);
    assert_eq!(store.list_last_uses(&bolt.id, Timestamp::default()).await.unwrap(), []);
    assert_eq!(store.list_last_uses(&acme.id, Timestamp::default()).await.unwrap(), [(system, START)]);
}

pub async fn last_uses_are_listed_by_the_time_of_their_flush(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let [early, late, never] = ["Early", "Late", "Never"].map(|name| acme.system(name).id);
    let mut instance = Instance::new(1);
    let second = START.plus(10 * SECOND);
    let first = vec![used(&acme, early, "aaaa", 1, START), used(&acme, late, "bbbb", 1, START.plus(SECOND))];
    store.add_usage(&instance.flush(START, first)).await.unwrap();
    // A use that was flushed late.
    let then = vec![used(&acme, late, "bbbb", 1, START), refused(&acme, never, "cccc", 1, second)];
    store.add_usage(&instance.flush(second, then)).await.unwrap();

    let mut all = store.list_last_uses(&acme.id, Timestamp::default()).await.unwrap();
    all.sort();
    let mut expected = [(early, START), (late, START.plus(SECOND))];
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(store.list_last_uses(&acme.id, second).await.unwrap(), [(late, START.plus(SECOND))]);
    assert_eq!(store.list_last_uses(&acme.id, second.plus(SECOND)).await.unwrap(), []);
}

pub async fn use_is_not_in_the_feed(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let system = created(&*store, &mut acme, "Billing").await;
    let mut follower = follow(&*store, None).await;

    let mut instance = Instance::new(1);
    for _ in 0..2 {
        let flush = instance.flush(START, vec![used(&acme, system.id, "aaaa", 1, START)]);
        store.add_usage(&flush).await.unwrap();
    }
    store.purge_usage(START.plus(1000 * 24 * HOUR), RETENTION, START).await.unwrap();
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;

    assert_eq!(follower.next_entry().await, entry);
    assert_eq!(store.find_system(&acme.id, system.id).await.unwrap(), Some(system));
}

pub async fn use_past_its_retention_is_purged(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let kept = created(&*store, &mut acme, "Kept").await.id;
    let deleted = acme.system("Deleted").id;
    let mut instance = Instance::new(1);
    let uses = vec![used(&acme, kept, "aaaa", 1, START), used(&acme, deleted, "bbbb", 1, START)];
    store.add_usage(&instance.flush(START, uses)).await.unwrap();
    let counts = async |now: Timestamp, system| {
        let hours = range(Resolution::Hour, now.minus(MAX_HOURS), now);
        let days = range(Resolution::Day, now.minus(MAX_DAYS), now);
        let mut sums = Vec::new();
        for range in [hours, days] {
            sums.push(series(&*store, &acme.id, system, range, None).await.iter().map(|(used, _)| used).sum::<u64>());
        }
        sums
    };

    let purge = async |after: Duration, unused_since| {
        store.purge_usage(START.plus(after), RETENTION, unused_since).await.unwrap()
    };
    assert_eq!(purge(MAX_HOURS, START).await, 0, "the day is still kept");
    assert_eq!(counts(START.plus(MAX_HOURS), kept).await, [1, 1]);
    assert_eq!(purge(MAX_HOURS + 24 * HOUR, START).await, 2);
    assert_eq!(purge(MAX_HOURS + 24 * HOUR, START).await, 0);
    assert_eq!(counts(START.plus(MAX_HOURS), kept).await, [0, 1]);
    assert_eq!(purge(MAX_DAYS + 31 * 24 * HOUR, START).await, 2);
    assert_eq!(counts(START.plus(MAX_HOURS), kept).await, [0, 0]);
    assert!(summary(&*store, &acme, deleted).await.is_some());
    assert_eq!(purge(HOUR, START.plus(SECOND)).await, 1, "the summary of the deleted system");
    assert_eq!(summary(&*store, &acme, deleted).await, None);
    assert_eq!(store.list_last_uses(&acme.id, START).await.unwrap(), [(kept, START)]);
}

pub async fn keys_presented_last_are_kept_of_a_system_with_many(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let system = created(&*store, &mut acme, "Rotated").await.id;
    let uses = (0..70_u32).map(|n| used(&acme, system, &format!("{n:04}"), 1, START.plus(SECOND * n))).collect();
    store.add_usage(&Instance::new(1).flush(START, uses)).await.unwrap();

    store.purge_usage(START, RETENTION, START).await.unwrap();

    let keys = summary(&*store, &acme, system).await.unwrap().keys;
    assert_eq!(keys.len(), MAX_KEYS_PER_SYSTEM);
    assert!(keys.contains_key(&mark("0069")) && !keys.contains_key(&mark("0005")));
}
