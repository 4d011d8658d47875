//! Which index a filter of the audit log uses, and what it finds by it.

use futures::TryStreamExt;
use keymark::domain::audit::{AuditAction, AuditEntry, AuditFilter};
use keymark::domain::pages::PageEnd;
use keymark::store::mongo::MongoStore;
use keymark::store::{AuditStore, PageRequest};
use mongodb::Database;
use mongodb::bson::{Document, doc, serialize_to_document};

use super::OneKey;
use crate::contract::fixtures::{SECOND, START, Tenant};

/// Entries of the log, one a second, about one system. Conditions with over 10,000 entries are not counted to the end.
const ENTRIES: u32 = 14_000;
/// The entry that is a deletion.
const DELETED: u32 = 600;
/// Entries with the time of another: the clock was wrong.
const WRONG: [(u32, u32); 2] = [(5, 12_000), (13_500, 5_000)];
const LIMIT: usize = 10;

/// A store with a log, and the profiler on.
async fn profiled_log() -> (MongoStore, Tenant, AuditFilter, Database) {
    let OneKey { store, mut acme, system, database, .. } = OneKey::new().await;
    let mut head = store.audit_head(&acme.id).await.expect("a head");
    let documents: Vec<_> = (0..ENTRIES)
        .map(|entry| {
            let second = WRONG.iter().find(|(wrong, _)| *wrong == entry).map_or(entry, |(_, second)| *second);
            acme.now = START.plus(SECOND * second);
            let action = if entry == DELETED { AuditAction::SystemDeleted } else { AuditAction::KeyRevoked };
            let mut event = acme.event(action);
            event.system = Some(system.id);
            let entry = AuditEntry::after(&head, acme.id.clone(), event);
            head = entry.head();
            let mut document = doc! { "_id": entry.event.id.to_string() };
            document.extend(serialize_to_document(&entry).expect("a document"));
            document
        })
        .collect();
    database.collection::<Document>("audit").insert_many(documents).await.expect("inserted");
    let (tenant, number) = (doc! { "_id": acme.id.as_str() }, i64::try_from(head.number).expect("a number"));
    let moved = doc! { "$set": { "number": number, "hash": head.hash.to_string() } };
    database.collection::<Document>("tenants").update_one(tenant, moved).await.expect("updated");
    database.run_command(doc! { "profile": 2 }).await.expect("the profiler is on");
    let of_system = AuditFilter { system: Some(system.id), ..AuditFilter::default() };
    (store, acme, of_system, database)
}

/// The entries of the audit log that each query read, or keys of an index if it read more of them.
async fn examined(database: &Database) -> Vec<i32> {
    let lists = doc! { "ns": format!("{}.audit", database.name()), "op": "query" };
    let profile = database.collection::<Document>("system.profile");
    let lists: Vec<_> = profile.find(lists).await.expect("a profile").try_collect().await.expect("its operations");
    let count = |list: &Document, member| list.get_i32(member).expect("a count");
    lists.iter().map(|list| count(list, "docsExamined").max(count(list, "keysExamined"))).collect()
}

fn within(from: u32, to: u32) -> AuditFilter {
    let at = |second: u32| Some(START.plus(SECOND * second));
    AuditFilter { from: at(from), to: at(to), ..AuditFilter::default() }
}

#[tokio::test]
async fn entries_that_meet_several_conditions_are_found_by_the_rarest() {
    let (store, acme, of_system, database) = profiled_log().await;
    let of_action = |action| Some(vec![action]);
    let filters = [
        (AuditFilter { actions: of_action(AuditAction::SystemDeleted), ..of_system.clone() }, 1),
        (AuditFilter { system: of_system.system, ..within(DELETED, DELETED + 1) }, 1),
        // None of them is rare.
        (AuditFilter { actions: of_action(AuditAction::KeyRevoked), ..of_system }, u64::from(ENTRIES) - 1),
    ];
    for (filter, count) in &filters {
        let page = store.list_audit(&acme.id, filter, &PageRequest::first(LIMIT)).await.expect("a page");
        assert_eq!(page.items.len() as u64, (*count).min(LIMIT as u64), "{filter:?}");
        assert_eq!(store.count_audit(&acme.id, filter).await.expect("a count"), *count, "{filter:?}");
    }
    let examined = examined(&database).await;
    assert!(matches!(examined[..], [..=2, ..=2, ..=12]), "{examined:?}");
}

#[tokio::test]
async fn lists_by_time_are_whole_wherever_the_times_are() {
    let (store, acme, _, database) = profiled_log().await;
    let all = store.list_audit_after(&acme.id, 0, usize::MAX).await.expect("entries");
    let (early, late, most, many) = (within(40, 70), within(13_900, 13_930), within(1_000, 13_000), within(0, 10_200));
    let (first, last) = (PageEnd::First, PageEnd::Last);
    let lists = [
        (&early, first, None, None),
        (&early, first, Some(60), None),
        (&early, last, None, None),
        (&late, first, None, None),
        (&late, last, None, None),
        (&late, last, None, Some(13_910)),
        (&most, first, None, None),
        (&most, last, None, None),
        (&most, first, Some(1_008), None),
        (&most, last, None, Some(12_998)),
        (&most, last, Some(40), None),
        (&many, first, None, None),
        (&many, last, None, None),
        (&many, first, Some(9), None),
        (&many, last, None, Some(10_198)),
    ];
    for (filter, from, after, before) in lists {
        let request = PageRequest { after, before, limit: LIMIT, from };
        let page = store.list_audit(&acme.id, filter, &request).await.expect("a page");
        let matches = all.iter().rev().filter(|entry| filter.matches(&entry.event)).map(|entry| entry.number);
        let within = |number: &u64| after.is_none_or(|a| *number < a) && before.is_none_or(|b| *number > b);
        let matching: Vec<u64> = matches.filter(within).collect();
        let left_out = matching.len().saturating_sub(LIMIT);
        let expected = match from {
            PageEnd::First => &matching[..matching.len() - left_out],
            PageEnd::Last => &matching[left_out..],
        };
        let numbers: Vec<u64> = page.items.iter().map(|entry| entry.number).collect();
        assert_eq!((numbers.as_slice(), page.has_more), (expected, left_out > 0), "{filter:?} {request:?}");
    }
    let nothing = within(20_000, 30_000);
    let page = store.list_audit(&acme.id, &nothing, &PageRequest::first(LIMIT)).await.expect("a page");
    assert!(page.items.is_empty() && !page.has_more);
    // The first read was of all. The six lists of few entries read their numbers, and then a page of them.
    let examined = examined(&database).await;
    assert!(examined[1..13].iter().all(|examined| *examined <= 31), "{examined:?}");
}
