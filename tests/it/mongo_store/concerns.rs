//! The concerns and indexes of all commands, as the server's profiler records them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keymark::domain::audit::{AuditAction, AuditFilter, AuditOutcome};
use keymark::domain::changes::Row;
use keymark::domain::leases::{Incarnation, Lease, LogTime};
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, SystemOrder, SystemOrderField};
use keymark::store::{
    AuditStore, FeedStore, KeyStore, LeaseStore, OperatorStore, PageEnd, PageRequest, PurgeStore, Quota, ScanStore,
    SessionStore, SettingsStore, Store, SystemStore, ThrottleStore,
};
use mongodb::bson::{Document, doc};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::connect;
use crate::contract::fixtures::{START, commit, tenant};
use crate::injection::operators_of;
use crate::support::mongod::{fresh_database, shared};

/// Calls every method of a store whose URI sets the weakest concerns. Returns the operations that the profiler recorded.
async fn profile() -> Vec<Document> {
    let mut options = fresh_database().await;
    options.uri = format!(
        "{}&w=1&journal=false&readConcernLevel=local&readPreference=secondaryPreferred&retryReads=false",
        options.uri
    );
    let store = &connect(&options).await;
    let database = shared().await.client().await.database(&options.database);
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let mut acme = tenant("acme");
    let mut systems = Vec::new();
    for i in 0..12 {
        let system = acme.system(&format!("System {i}"));
        let create = acme.create(&system);
        commit(store, create).await;
        systems.push(system);
    }
    let (system, key, generate) = acme.generate(&systems[0]);
    commit(store, generate).await;
    let (_, revoked, revoke) = acme.revoke(&system, &key);
    commit(store, revoke).await;
    let ada = acme.operator("ada");
    let add = acme.add(&ada);
    commit(store, add).await;
    let session = acme.session(&ada);
    let sign_in = acme.sign_in(&session).requires(&Row::Operator(ada.clone())).once("first");
    commit(store, sign_in).await;
    let sign_out = acme.sign_out(&session);
    commit(store, sign_out).await;

    store.ping().await.unwrap();
    store.find_system(&acme.id, system.id).await.unwrap();
    for search in [Search::All, Search::parse("em 1")] {
        store.count_systems(&acme.id, &search).await.unwrap();
        store.count_systems_by_tenant().await.unwrap();
        for field in [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for (from, place) in [(PageEnd::First, false), (PageEnd::Last, false), (PageEnd::First, true)] {
                    let (low, high) = match direction {
                        Direction::Ascending => (0, 11),
                        Direction::Descending => (11, 0),
                    };
                    let place_of = |at: usize| place.then(|| field.key_of(&systems[at]));
                    let page = PageRequest { after: place_of(low), before: place_of(high), limit: 3, from };
                    store.list_systems(&acme.id, &search, SystemOrder { field, direction }, &page).await.unwrap();
                }
            }
        }
    }
    store.find_key(&[key.digest, revoked.digest]).await.unwrap();
    store.find_operator(ada.id).await.unwrap();
    store.find_operator_by_username(&ada.username).await.unwrap();
    store.list_operators(None).await.unwrap();
    store.list_operators(Some(&acme.id)).await.unwrap();
    store.find_session(session.id).await.unwrap();
    store.find_session_to_change(session.id).await.unwrap();
    store.list_sessions(ada.id).await.unwrap();
    store.list_tenants().await.unwrap();
    store.audit_head(&acme.id).await.unwrap();
    let entry = store.list_audit_after(&acme.id, 0, 5).await.unwrap().remove(0);
    store.find_audit_entry(&acme.id, entry.event.id).await.unwrap();
    store.find_audit_hashes(&acme.id, &[1, 2]).await.unwrap();
    store.recheck_audit_entry(&acme.id, 1).await.unwrap();
    for filter in filters(&system.id, &ada.id) {
        for (from, after, before) in [(PageEnd::First, None, None), (PageEnd::Last, Some(9), Some(2))] {
            let page = PageRequest { after, before, limit: 3, from };
            store.list_audit(&acme.id, &filter, &page).await.unwrap();
        }
        store.count_audit(&acme.id, &filter).await.unwrap();
    }
    store.find_systems(&acme.id, &[system.id]).await.unwrap();
    store.recheck_system(&acme.id, system.id).await.unwrap();
    store.recheck_operator(&"alice".parse().unwrap()).await.unwrap();
    store.scan_rows().await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    store.scan_systems(&acme.id).await.unwrap().1.try_collect::<Vec<_>>().await.unwrap();
    let incarnation = Incarnation::generate(&mut StdRng::seed_from_u64(1));
    let lease = Lease { incarnation, sequence: 1, applied: LogTime::default(), requests_ack: false, length: None };
    store.put_lease(&lease).await.unwrap();
    assert_eq!(store.list_leases().await.unwrap(), [lease]);
    store.list_leases_at(LogTime::new(1 << 32)).await.unwrap();
    store.delete_lease(&lease).await.unwrap();
    let quota = Quota { burst: 2, interval: Duration::from_secs(1) };
    store.take_token("door", quota, START).await.unwrap().unwrap();
    store.return_token("door", quota).await.unwrap();
    store.replace_setting("colour", None, "red").await.unwrap();
    store.replace_setting("colour", Some("red"), "blue").await.unwrap();
    store.find_setting("colour").await.unwrap();
    store.list_settings("col").await.unwrap();
    store.has_marker("first").await.unwrap();
    let far = START.plus(Duration::from_secs(1 << 30));
    store.purge(far, far).await.unwrap();
    drop(store.watch(None, None).await.unwrap().boxed());

    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let ours = doc! { "appName": "keymark", "ns": { "$not": { "$regex": "system.profile$" } } };
    profile.find(ours).await.unwrap().try_collect().await.unwrap()
}

fn filters(system: &keymark::domain::ids::SystemId, actor: &keymark::domain::ids::OperatorId) -> Vec<AuditFilter> {
    let none = AuditFilter::default();
    let timely = AuditFilter { from: Some(START), to: Some(START.plus(Duration::from_secs(9))), ..none.clone() };
    vec![
        none.clone(),
        AuditFilter { system: Some(*system), ..none.clone() },
        AuditFilter { actor: Some((*actor).into()), ..none.clone() },
        AuditFilter { actions: Some(vec![AuditAction::SystemCreated]), ..none.clone() },
        AuditFilter { actions: Some(vec![AuditAction::SystemCreated, AuditAction::KeyRevoked]), ..none.clone() },
        AuditFilter { outcome: Some(AuditOutcome::Done), ..none.clone() },
        AuditFilter { key_mark: "aB3_".to_owned().try_into().ok(), ..none.clone() },
        timely.clone(),
        AuditFilter {
            system: Some(*system),
            actor: Some((*actor).into()),
            actions: Some(vec![AuditAction::SystemCreated, AuditAction::KeyRevoked]),
            outcome: Some(AuditOutcome::Done),
            ..timely
        },
    ]
}

#[tokio::test]
async fn every_query_uses_an_index_also_for_its_order() {
    let profile = profile().await;
    assert!(profile.len() > 120, "the profiler saw {} operations", profile.len());
    let mut plans = BTreeSet::new();
    for operation in &profile {
        let plan = operation.get_str("planSummary").unwrap_or("none");
        // A read of a whole collection needs no index.
        let command = operation.get_document("command");
        let reads_all = command.is_ok_and(|command| command.get_document("filter").is_ok_and(Document::is_empty));
        assert!(reads_all || !plan.contains("COLLSCAN"), "{operation}");
        // The entries of a few days, which are listed by number, are sorted.
        let is_sorted = operation.get_bool("hasSortStage").unwrap_or(false);
        assert!(!is_sorted || plan == "IXSCAN { tenant: 1, event.occurredAt: 1, number: 1 }", "{operation}");
        let (op, ns) = (operation.get_str("op").unwrap(), operation.get_str("ns").unwrap());
        let collection = ns.split_once('.').map_or(ns, |(_, collection)| collection);
        plans.insert(format!("{op} {collection}: {plan}"));
    }
    insta::assert_snapshot!(plans.into_iter().collect::<Vec<_>>().join("\n"), @"
    command audit: COUNT_SCAN { tenant: 1, event.action: 1, number: 1, event.occurredAt: 1 }
    command audit: COUNT_SCAN { tenant: 1, event.actor.id: 1, number: 1, event.occurredAt: 1 }
    command audit: COUNT_SCAN { tenant: 1, event.keyMark: 1, number: 1, event.occurredAt: 1 }
    command audit: COUNT_SCAN { tenant: 1, event.occurredAt: 1, number: 1 }
    command audit: COUNT_SCAN { tenant: 1, event.outcome: 1, number: 1, event.occurredAt: 1 }
    command audit: COUNT_SCAN { tenant: 1, event.system: 1, number: 1, event.occurredAt: 1 }
    command audit: IXSCAN { tenant: 1, event.action: 1, number: 1, event.occurredAt: 1 }
    command audit: IXSCAN { tenant: 1, event.actor.id: 1, number: 1, event.occurredAt: 1 }
    command audit: IXSCAN { tenant: 1, event.occurredAt: 1, number: 1 }
    command audit: IXSCAN { tenant: 1, event.previousKeyMark: 1, number: 1, event.occurredAt: 1 }
    command audit: IXSCAN { tenant: 1, event.system: 1, number: 1, event.occurredAt: 1 }
    command buckets: IDHACK
    command systems: COUNT_SCAN { tenant: 1, folded: 1 }
    command systems: IXSCAN { tenant: 1, folded: 1 }
    command tenants: IDHACK
    insert audit: none
    insert keys: none
    insert meta: none
    insert operators: none
    insert sessions: none
    insert systems: none
    query audit: IXSCAN { _id: 1 }
    query audit: IXSCAN { tenant: 1, event.action: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.action: 1, number: 1, event.occurredAt: 1 }, IXSCAN { tenant: 1, event.action: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.actor.id: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.keyMark: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.occurredAt: 1, number: 1 }
    query audit: IXSCAN { tenant: 1, event.outcome: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.previousKeyMark: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, event.system: 1, number: 1, event.occurredAt: 1 }
    query audit: IXSCAN { tenant: 1, number: 1 }
    query buckets: IXSCAN { arrival: 1 }
    query keys: COLLSCAN
    query keys: IXSCAN { _id: 1 }
    query keys: IXSCAN { revokedAt: 1 }
    query leases: COLLSCAN
    query meta: IDHACK
    query meta: IXSCAN { _id: 1 }
    query operators: COLLSCAN
    query operators: IXSCAN { _id: 1 }
    query operators: IXSCAN { tenant: 1, username: 1 }
    query operators: IXSCAN { username: 1 }
    query sessions: COLLSCAN
    query sessions: IXSCAN { _id: 1 }
    query sessions: IXSCAN { expiresAt: 1 }
    query sessions: IXSCAN { operator: 1 }
    query systems: IXSCAN { _id: 1 }
    query systems: IXSCAN { tenant: 1, createdAt: 1, _id: 1 }
    query systems: IXSCAN { tenant: 1, folded: 1 }
    query systems: IXSCAN { tenant: 1, updatedAt: 1, _id: 1 }
    query tenantRows: COLLSCAN
    query tenants: IDHACK
    query tenants: IXSCAN { _id: 1 }
    query tokens: COLLSCAN
    remove buckets: IXSCAN { _id: 1 }
    remove keys: IXSCAN { _id: 1 }
    remove leases: IXSCAN { _id: 1 }
    remove sessions: IXSCAN { _id: 1 }
    update buckets: IDHACK
    update keys: IXSCAN { _id: 1 }
    update leases: IDHACK
    update meta: IDHACK
    update meta: IXSCAN { _id: 1 }
    update systems: IXSCAN { _id: 1 }
    update tenants: IXSCAN { _id: 1 }
    ");
}

#[tokio::test]
async fn no_call_sends_javascript_and_only_searches_by_name_send_a_literal_pattern() {
    let operators: BTreeSet<_> = profile().await.iter().flat_map(operators_of).collect();
    insta::assert_snapshot!(operators.into_iter().collect::<Vec<_>>().join(" "), @"$add $clusterTime $cond $db $group $gt $gte $hint $in $inc $limit $lt $lte $match $max $ne $not $or $regex in a search by name $set $setOnInsert $sort $subtract $sum");
}

#[tokio::test]
async fn concerns_are_the_strongest_whatever_the_uri_says() {
    let mut seen = BTreeSet::new();
    for operation in profile().await {
        let Ok(command) = operation.get_document("command") else { continue };
        let reads = ["find", "aggregate"].into_iter().find(|name| command.contains_key(name));
        if let Some(name) = reads {
            let in_transaction = command.contains_key("txnNumber");
            let level = command.get_document("readConcern").and_then(|concern| concern.get_str("level"));
            let level = if in_transaction { "the transaction's" } else { level.unwrap_or("none") };
            let concern = command.get_document("readConcern");
            let after = concern.is_ok_and(|concern| concern.contains_key("afterClusterTime"));
            let after = if after { " after a time" } else { "" };
            seen.insert(format!("{name}: {level}{after}"));
        }
        if command.contains_key("startTransaction") {
            let level = command.get_document("readConcern").unwrap().get_str("level").unwrap();
            seen.insert(format!("a transaction: {level}"));
        }
        if let Ok(concern) = command.get_document("writeConcern") {
            let journal = concern.get_bool("j").unwrap_or(false);
            seen.insert(format!("a write: {} {journal}", concern.get_str("w").unwrap_or("a number")));
        }
        // The driver sends a read preference only if it is not "primary".
        assert!(!command.contains_key("$readPreference"), "{command}");
    }
    insta::assert_snapshot!(seen.into_iter().collect::<Vec<_>>().join("\n"), @"
    a transaction: snapshot
    a write: majority true
    aggregate: majority
    find: linearizable
    find: majority
    find: majority after a time
    find: the transaction's
    ");
}
