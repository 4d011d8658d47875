//! The audit log of a tenant: gapless numbers, a hash chain, and reads by filter, number and id.

use std::net::IpAddr;

use keymark::domain::audit::{
    AuditAction, AuditActor, AuditActorKind, AuditEntry, AuditFilter, AuditHead, AuditOutcome, SystemImage,
};
use keymark::domain::changes::Batch;
use keymark::domain::keys::Mark;
use keymark::domain::permissions::{Permission, Permissions};
use keymark::domain::refusal::ErrorCode;
use keymark::store::{Page, PageEnd, PageRequest, Store};

use super::Factory;
use super::fixtures::*;
use super::systems::created;

const ACTIONS: [AuditAction; 17] = [
    AuditAction::SystemCreated,
    AuditAction::SystemRenamed,
    AuditAction::SystemDeleted,
    AuditAction::KeyGenerated,
    AuditAction::KeyRevoked,
    AuditAction::OperatorAdded,
    AuditAction::OperatorRemoved,
    AuditAction::PermissionsChanged,
    AuditAction::PasswordChanged,
    AuditAction::SignedIn,
    AuditAction::SignedOut,
    AuditAction::SignInRefused,
    AuditAction::PermissionRefused,
    AuditAction::RevokedKeyPresented,
    AuditAction::AuditExported,
    AuditAction::KeysRedigested,
    AuditAction::StoreRestored,
];

pub async fn empty_log_has_head_zero(factory: &dyn Factory) {
    let store = factory.open().await;
    let acme = tenant_id("acme");
    let everything = AuditFilter::default();

    assert_eq!(store.audit_head(&acme).await.unwrap(), AuditHead::default());
    let page = store.list_audit(&acme, &everything, &whole()).await.unwrap();
    assert_eq!(page, Page { items: vec![], has_more: false });
    assert_eq!(store.count_audit(&acme, &everything).await.unwrap(), 0);
    assert_eq!(store.list_audit_after(&acme, 0, 10).await.unwrap(), []);
    assert_eq!(store.list_tenants().await.unwrap(), []);
}

pub async fn entries_are_stored_as_returned(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = acme.operator("ada");
    let system = acme.system("Ünïcödé \"quoted\" \\ $where.a ﷺ 🇫🇷");
    let mark = mark("aB3_");
    let viewer: Permissions = [Permission::View, Permission::Delete].into_iter().collect();
    let mut returned = Vec::new();

    // No optional member, then each one alone, then all of them.
    let mut events: Vec<_> = (0..10).map(|_| acme.event(AuditAction::SystemRenamed)).collect();
    events[1].source_address = Some("192.0.2.7".parse::<IpAddr>().unwrap());
    events[2].source_address = Some("2001:db8::7".parse::<IpAddr>().unwrap());
    events[3] = events[3].clone().about_deleted_system(&system);
    events[4] = events[4].clone().about_system(&system);
    events[5] = events[5].clone().about_key(mark);
    events[6] = events[6].clone().renamed_from("Before");
    events[7] = events[7].clone().about_operator(&ada).with_permissions(viewer);
    events[8] = events[8].clone().refused(ErrorCode::Forbidden, 4_000_000_000_000);
    let (keyed, _, _) = acme.generate(&system);
    events[9] = events[9].clone().about_system(&keyed).about_key(mark).renamed_from("Before").about_operator(&ada);
    events[9] = events[9].clone().with_permissions(Permissions::NONE).refused(ErrorCode::Internal, 1);
    events[9].actor = AuditActor::operator(&ada);
    assert_eq!(events[9].image, Some(SystemImage::of(&keyed)));
    for actor in [AuditActor::keymark(), AuditActor::anonymous()] {
        let mut event = acme.event(AuditAction::SignedIn);
        event.actor = actor;
        events.push(event);
    }
    events.extend(ACTIONS.map(|action| acme.event(action)));
    for event in events {
        let entry = commit(&*store, Batch::new(acme.id.clone(), event.clone())).await;
        assert_eq!(entry.event, event);
        returned.push(entry);
    }

    assert_chained(&returned);
    assert_eq!(log(&*store, &acme.id).await, returned);
    assert_eq!(store.list_audit_after(&acme.id, 0, 100).await.unwrap(), returned);
    for entry in returned {
        assert_eq!(store.find_audit_entry(&acme.id, entry.event.id).await.unwrap(), Some(entry));
    }
}

pub async fn log_is_gapless_and_chained_with_50_writers(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt", "cube"].map(tenant);
    let batches = (0..50).map(|i| {
        let tenant = &mut tenants[i % 3];
        let system = tenant.system(&format!("System {i}"));
        tenant.create(&system)
    });

    let batches = batches.collect();
    let mut returned = Vec::new();
    for result in commit_concurrently(&instances, batches).await {
        returned.push(result.expect("the batch has no conflict"));
    }

    let store = &*instances[0];
    for (tenant, length) in tenants.iter().zip([17, 17, 16]) {
        let mut of_tenant: Vec<_> = returned.iter().filter(|entry| entry.tenant == tenant.id).cloned().collect();
        of_tenant.sort_by_key(|entry| entry.number);
        assert_eq!(of_tenant.len(), length);
        assert_chained(&of_tenant);
        assert_eq!(log(store, &tenant.id).await, of_tenant);
        assert_eq!(store.audit_head(&tenant.id).await.unwrap(), of_tenant[length - 1].head());
        assert_eq!(systems(store, &tenant.id).await.len(), length);
    }
}

pub async fn log_is_listed_newest_first(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    for _ in 0..7 {
        let note = acme.note(AuditAction::SignedIn);
        commit(&*store, note).await;
    }

    for ((after, before, limit, from), numbers, has_more) in [
        ((None, None, 7, PageEnd::First), vec![7, 6, 5, 4, 3, 2, 1], false),
        ((None, None, 7, PageEnd::Last), vec![7, 6, 5, 4, 3, 2, 1], false),
        ((None, None, 3, PageEnd::First), vec![7, 6, 5], true),
        ((None, None, 3, PageEnd::Last), vec![3, 2, 1], true),
        ((Some(5), None, 3, PageEnd::First), vec![4, 3, 2], true),
        ((Some(5), None, 4, PageEnd::First), vec![4, 3, 2, 1], false),
        ((None, Some(3), 3, PageEnd::Last), vec![6, 5, 4], true),
        ((None, Some(3), 4, PageEnd::Last), vec![7, 6, 5, 4], false),
        ((Some(7), Some(2), 1, PageEnd::First), vec![6], true),
        ((Some(7), Some(2), 1, PageEnd::Last), vec![3], true),
        ((Some(7), Some(2), 4, PageEnd::Last), vec![6, 5, 4, 3], false),
        ((Some(1), None, 1, PageEnd::First), vec![], false),
        ((None, Some(7), 1, PageEnd::Last), vec![], false),
        ((Some(3), Some(3), 1, PageEnd::First), vec![], false),
        ((Some(2), Some(5), 1, PageEnd::First), vec![], false),
        ((Some(99), None, 1, PageEnd::First), vec![7], true),
        ((None, Some(0), 1, PageEnd::Last), vec![1], true),
    ] {
        let request = PageRequest { after, before, limit, from };
        let page = store.list_audit(&acme.id, &AuditFilter::default(), &request).await.unwrap();
        assert_eq!((numbers_of(&page.items), page.has_more), (numbers, has_more), "{request:?}");
    }
}

pub async fn each_member_of_a_filter_narrows_the_list(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let all = varied_log(&*store, &mut acme).await;

    for (filter, expected) in filters(&all) {
        let page = store.list_audit(&acme.id, &filter, &whole()).await.unwrap();
        assert_eq!(numbers_of(&page.items), expected, "{filter:?}");
        assert_eq!(store.count_audit(&acme.id, &filter).await.unwrap(), expected.len() as u64, "{filter:?}");
    }
}

pub async fn filtered_log_pages_from_both_ends(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let all = varied_log(&*store, &mut acme).await;

    for (filter, expected) in filters(&all) {
        for limit in [1, 2, 5] {
            let mut request = PageRequest { after: None, before: None, limit, from: PageEnd::First };
            let mut forward = Vec::new();
            loop {
                let page = store.list_audit(&acme.id, &filter, &request).await.unwrap();
                forward.extend(numbers_of(&page.items));
                assert_eq!(page.has_more, forward.len() < expected.len(), "{filter:?} {request:?}");
                request.after = forward.last().copied();
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(forward, expected, "{filter:?}, {limit} at a time");

            let mut request = PageRequest { after: None, before: None, limit, from: PageEnd::Last };
            let mut backward = Vec::new();
            loop {
                let page = store.list_audit(&acme.id, &filter, &request).await.unwrap();
                backward.splice(0..0, numbers_of(&page.items));
                assert_eq!(page.has_more, backward.len() < expected.len(), "{filter:?} {request:?}");
                request.before = backward.first().copied();
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(backward, expected, "{filter:?}, {limit} at a time from the last");
        }
    }
}

pub async fn entries_after_a_number_are_listed_oldest_first(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    for _ in 0..5 {
        for tenant in [&mut acme, &mut bolt] {
            let note = tenant.note(AuditAction::SignedIn);
            commit(&*store, note).await;
        }
    }

    for (number, limit, expected) in
        [(0, 100, vec![1, 2, 3, 4, 5]), (0, 2, vec![1, 2]), (3, 1, vec![4]), (3, 9, vec![4, 5]), (5, 9, vec![])]
    {
        let entries = store.list_audit_after(&acme.id, number, limit).await.unwrap();
        assert_eq!(numbers_of(&entries), expected, "{limit} after {number}");
        assert!(entries.iter().all(|entry| entry.tenant == acme.id));
    }
    assert_eq!(store.list_audit_after(&acme.id, 99, 9).await.unwrap(), []);
}

pub async fn entry_is_found_by_its_id_within_its_tenant(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, bolt) = (tenant("acme"), tenant("bolt"));
    let note = acme.note(AuditAction::SignedIn);
    let entry = commit(&*store, note).await;

    assert_eq!(store.find_audit_entry(&acme.id, entry.event.id).await.unwrap(), Some(entry.clone()));
    assert_eq!(store.find_audit_entry(&bolt.id, entry.event.id).await.unwrap(), None);
    let never_written = acme.event(AuditAction::SignedIn);
    assert_eq!(store.find_audit_entry(&acme.id, never_written.id).await.unwrap(), None);
}

pub async fn hashes_are_found_by_number_within_the_tenant(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let mut heads = Vec::new();
    for _ in 0..4 {
        for (tenant, is_asked) in [(&mut acme, true), (&mut bolt, false)] {
            let note = tenant.note(AuditAction::SignedIn);
            let entry = commit(&*store, note).await;
            heads.extend(is_asked.then(|| entry.head()));
        }
    }

    for (numbers, expected) in
        [(vec![], vec![]), (vec![2], vec![1]), (vec![4, 1], vec![0, 3]), (vec![0, 3, 5, u64::MAX], vec![2])]
    {
        let mut found = store.find_audit_hashes(&acme.id, &numbers).await.unwrap();
        found.sort_by_key(|head| head.number);
        assert_eq!(found, expected.iter().map(|at: &usize| heads[*at]).collect::<Vec<_>>(), "{numbers:?}");
    }
    assert_eq!(store.find_audit_hashes(&tenant_id("cube"), &[1]).await.unwrap(), []);
    for (id, number, expected) in [(&acme.id, 4, Some(heads[3])), (&acme.id, 5, None), (&tenant_id("cube"), 1, None)] {
        assert_eq!(store.recheck_audit_entry(id, number).await.unwrap(), expected);
    }
}

pub async fn oldest_entries_are_purged_from_every_list(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let all = varied_log(&*store, &mut acme).await;
    let others = varied_log(&*store, &mut bolt).await;
    let filters = filters(&all);

    for (last, removed) in [(0, 0), (9, 9), (9, 0), (20, 11)] {
        assert_eq!(store.purge_audit(&acme.id, last).await.unwrap(), removed);
        assert_eq!(log(&*store, &acme.id).await, all[last as usize..]);
        assert_eq!(store.list_audit_after(&acme.id, 0, 100).await.unwrap(), all[last as usize..]);
        assert_eq!(store.audit_head(&acme.id).await.unwrap(), all[25].head());
        for (filter, expected) in &filters {
            let expected: Vec<u64> = expected.iter().copied().filter(|number| *number > last).collect();
            let page = store.list_audit(&acme.id, filter, &whole()).await.unwrap();
            assert_eq!(numbers_of(&page.items), expected, "{filter:?}");
            assert_eq!(store.count_audit(&acme.id, filter).await.unwrap(), expected.len() as u64, "{filter:?}");
        }
        for entry in &all {
            let found = store.find_audit_entry(&acme.id, entry.event.id).await.unwrap();
            assert_eq!(found.is_some(), entry.number > last);
        }
    }
    assert_eq!(log(&*store, &bolt.id).await, others);
    let note = acme.note(AuditAction::SignedIn);
    let next = commit(&*store, note).await;
    assert_eq!(next.check(&all[25].head()), Ok(()));
}

/// Commits entries that differ in every member of a filter: two systems, two operators and none, five actions, both
/// outcomes, two marks and none, one entry per second.
async fn varied_log(store: &dyn Store, acme: &mut Tenant) -> Vec<AuditEntry> {
    let systems = [created(store, acme, "One").await, created(store, acme, "Two").await];
    let operators = [acme.operator("ada"), acme.operator("bob")];
    for i in 0..24 {
        acme.now = START.plus(SECOND * i);
        let i = i as usize;
        let mut event = acme.event(ACTIONS[i % 5]);
        if i % 3 < 2 {
            event = event.about_deleted_system(&systems[i % 3]);
        }
        if i % 4 < 2 {
            event.actor = AuditActor::operator(&operators[i % 4]);
        }
        if i % 8 == 3 {
            event = event.about_key(mark("aB3_"));
        } else if i % 8 == 7 {
            event = event.about_key(mark("1234")).about_previous_key(Some(mark("aB3_")));
        }
        if i % 6 == 5 {
            event = event.refused(ErrorCode::Forbidden, 1);
        }
        commit(store, Batch::new(acme.id.clone(), event)).await;
    }
    log(store, &acme.id).await
}

/// Filters for the varied log, each with the numbers of matching entries, newest first.
fn filters(all: &[AuditEntry]) -> Vec<(AuditFilter, Vec<u64>)> {
    let none = AuditFilter::default();
    let system = all[0].event.system;
    let actor = all.iter().find(|entry| entry.event.actor.kind == AuditActorKind::Operator).unwrap().event.actor.id;
    let second = |seconds: u32| Some(START.plus(SECOND * seconds));
    let exact = [
        (AuditFilter { system, ..none.clone() }, vec![24, 21, 18, 15, 12, 9, 6, 3, 1]),
        (AuditFilter { actor, ..none.clone() }, vec![23, 19, 15, 11, 7, 3]),
        (AuditFilter { actions: Some(vec![AuditAction::KeyRevoked]), ..none.clone() }, vec![22, 17, 12, 7]),
        (AuditFilter { actions: Some(vec![]), ..none.clone() }, vec![]),
        (AuditFilter { actions: Some(vec![AuditAction::AuditExported]), ..none.clone() }, vec![]),
        (AuditFilter { outcome: Some(AuditOutcome::Refused), ..none.clone() }, vec![26, 20, 14, 8]),
        (AuditFilter { from: second(21), ..none.clone() }, vec![26, 25, 24]),
        (AuditFilter { to: second(2), ..none.clone() }, vec![4, 3, 2, 1]),
        (AuditFilter { from: second(2), to: second(4), ..none.clone() }, vec![6, 5]),
        (AuditFilter { from: second(4), to: second(4), ..none.clone() }, vec![]),
        (AuditFilter { from: second(24), ..none.clone() }, vec![]),
        (AuditFilter { system, actor, ..none.clone() }, vec![15, 3]),
        (AuditFilter { key_mark: Some(mark("aB3_")), ..none.clone() }, vec![26, 22, 18, 14, 10, 6]),
        (AuditFilter { key_mark: Some(mark("1234")), ..none.clone() }, vec![26, 18, 10]),
        (AuditFilter { key_mark: Some(mark("ab3_")), ..none.clone() }, vec![]),
        (AuditFilter { key_mark: Some(mark("aB3_")), system, ..none.clone() }, vec![18, 6]),
        (AuditFilter { key_mark: Some(mark("aB3_")), from: second(8), to: second(17), ..none.clone() }, vec![18, 14]),
    ];
    let two_actions = Some(vec![AuditAction::SystemCreated, AuditAction::SystemRenamed]);
    let combined = [
        none.clone(),
        AuditFilter { actions: two_actions.clone(), ..none.clone() },
        AuditFilter { outcome: Some(AuditOutcome::Done), from: second(3), ..none.clone() },
        AuditFilter { system, actions: two_actions, to: second(20), outcome: Some(AuditOutcome::Done), ..none },
    ];
    let combined = combined.map(|filter| {
        let matching = all.iter().rev().filter(|entry| filter.matches(&entry.event));
        let numbers = matching.map(|entry| entry.number).collect();
        (filter, numbers)
    });
    exact.into_iter().chain(combined).collect()
}

fn mark(text: &str) -> Mark {
    text.to_owned().try_into().unwrap()
}

fn numbers_of(entries: &[AuditEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.number).collect()
}

/// Checks that the entries are a complete log: numbered from 1 without a gap, each hash continuing the one before.
pub fn assert_chained(entries: &[AuditEntry]) {
    let end = entries.iter().try_fold(AuditHead::default(), |head, entry| entry.check(&head).map(|()| entry.head()));
    assert_eq!(end.map(|head| head.number), Ok(entries.len() as u64));
}
