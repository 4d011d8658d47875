//! Lists of systems that are filtered, or sorted by use and by times of keys: the same with and without a cache, and current
//! on every instance.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use keymark::domain::actors::AuditActor;
use keymark::domain::audit::{AuditAction, AuditEvent, Origin};
use keymark::domain::changes::{Batch, Row};
use keymark::domain::external_ids::ExternalId;
use keymark::domain::ids::{AuditEntryId, OperatorId, RequestId, SystemId, TenantId};
use keymark::domain::keys::{KeyDigest, Mark};
use keymark::domain::leases::Incarnation;
use keymark::domain::system_names::SystemName;
use keymark::domain::systems::{CurrentKey, Suspension, System};
use keymark::domain::texts::Description;
use keymark::domain::time::Timestamp;
use keymark::domain::usage::{Counts, Flush, KeyUse};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value as Json, json};

use crate::search::{found, load};
use crate::support::actors::{ALL, App, Operator, START, Setup, SkippingStopwatch};
use crate::support::faulty::Switch;
use crate::support::on_both_stores;

on_both_stores![
    filtered_and_sorted_lists_agree_with_a_plain_list,
    change_is_in_the_filters_of_another_instance_when_its_response_is_sent,
    use_is_in_filters_and_orders_once_it_was_added,
    system_that_is_changed_during_a_filter_is_not_returned_as_it_was,
    filter_finds_no_system_of_another_tenant,
    text_that_is_no_id_or_mark_matches_nothing,
    description_is_searched_with_the_name,
];

const DOCUMENT: &str =
    "query ($search: String, $filter: SystemFilter, $order: SystemOrder, $first: Int, $after: String,
    $last: Int, $before: String) {
    systems(search: $search, filter: $filter, orderBy: $order, first: $first, after: $after, last: $last,
        before: $before) {
        totalCount edges { cursor node { id } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// A time this many hours after the start of all tests, before which nothing happens.
fn hour(hours: u32) -> Timestamp {
    START.plus(Duration::from_hours(hours.into()))
}

fn pick<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

fn operator_id(n: u8) -> OperatorId {
    format!("op_{n:026}").parse().unwrap()
}

fn external_id(n: usize) -> String {
    format!("Cus_{n}")
}

fn mark(n: u8) -> Mark {
    format!("abc{n}").try_into().unwrap()
}

fn key(rng: &mut StdRng) -> CurrentKey {
    let actors = [
        AuditActor { id: Some(operator_id(1).into()), ..AuditActor::keymark() },
        AuditActor { id: Some(operator_id(2).into()), ..AuditActor::keymark() },
        AuditActor::command_line(),
    ];
    CurrentKey {
        digest: KeyDigest::from_bytes(rng.random()),
        mark: mark(rng.random_range(0..4)),
        generated_at: Some(hour(rng.random_range(0..9))),
        generated_by: Some(pick(rng, &actors)),
        expires_at: rng.random_bool(0.5).then(|| hour(rng.random_range(10..19))),
    }
}

/// The systems and their last uses.
#[derive(Default)]
struct Model {
    systems: Vec<System>,
    uses: HashMap<SystemId, Timestamp>,
}

impl Model {
    /// Commits this many systems that differ in everything by which lists are filtered and sorted.
    async fn random(app: &App, rng: &mut StdRng, count: usize) -> Self {
        let mut model = Self::default();
        for n in 0..count {
            let created_at = hour(rng.random_range(0..9));
            let name = SystemName::parse(&format!("{} {n}", pick(rng, &["Straße", "ABC", "été"]))).unwrap();
            let system = System::new(SystemId::new(created_at, rng), acme(), name, created_at);
            let description = pick(rng, &["", "", "Sends ABC\nto Straße", "none"]);
            let external_id = if rng.random_bool(0.5) { external_id(n) } else { String::new() };
            let (current, retiring) = (key(rng), key(rng));
            model.systems.push(System {
                description: Description::parse(description).unwrap(),
                external_id: ExternalId::parse(&external_id).unwrap(),
                key: rng.random_bool(0.7).then_some(current),
                retiring: rng.random_bool(0.2).then_some(retiring),
                suspended: rng.random_bool(0.2).then_some(Suspension { at: created_at, reason: None }),
                updated_at: created_at.plus(Duration::from_secs(rng.random_range(0..9))),
                ..system
            });
        }
        let origin =
            Origin { actor: AuditActor::keymark(), source_address: None, request_id: RequestId::new(START, rng) };
        let event = AuditEvent::new(AuditEntryId::new(START, rng), START, &origin, AuditAction::SystemCreated);
        let batch = Batch::new(acme(), event);
        let batch = model.systems.iter().fold(batch, |batch, system| batch.insert(Row::System(system.clone())));
        app.store.commit(batch).await.unwrap();
        for system in &model.systems {
            if rng.random_bool(0.5) {
                model.uses.insert(system.id, hour(rng.random_range(0..9)));
            }
        }
        add_uses(app, 1, START, model.uses.iter().map(|(id, at)| (*id, *at))).await;
        model
    }

    fn used(&self, system: &System) -> Option<Timestamp> {
        self.uses.get(&system.id).copied()
    }

    /// The value that a field sorts by: a text or a time.
    fn value(&self, field: &str, system: &System) -> Option<(String, Timestamp)> {
        let current = system.key.as_ref();
        let at = match field {
            "NAME" => return Some((system.name.folded(), START)),
            "CREATED_AT" => Some(system.created_at),
            "UPDATED_AT" => Some(system.updated_at),
            "LAST_USED_AT" => self.used(system),
            "KEY_GENERATED_AT" => current.and_then(|key| key.generated_at),
            "KEY_EXPIRES_AT" => current.and_then(|key| key.expires_at),
            other => panic!("{other}"),
        };
        at.map(|at| (String::new(), at))
    }

    fn list(&self, matches: impl Fn(&System) -> bool, field: &str, descending: bool) -> Vec<String> {
        let mut systems: Vec<_> = self.systems.iter().filter(|system| matches(system)).collect();
        systems.sort_by(|one, other| {
            let (a, b) = (self.value(field, one), self.value(field, other));
            let ascending = a.cmp(&b).then(one.id.cmp(&other.id));
            let directed = if descending { ascending.reverse() } else { ascending };
            match (a, b) {
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                _ => directed,
            }
        });
        systems.iter().map(|system| system.id.to_string()).collect()
    }
}

/// Adds uses as the `number`-th flush of an instance.
async fn add_uses(app: &App, number: u64, at: Timestamp, uses: impl Iterator<Item = (SystemId, Timestamp)>) {
    let used = |(system, at)| KeyUse {
        tenant: acme(),
        system,
        mark: mark(0),
        counts: Counts { accepted: 1, refused: 0 },
        last_used_at: Some(at),
        last_refused_at: None,
    };
    let instance = Incarnation::generate(&mut StdRng::seed_from_u64(1));
    app.store.add_usage(&Flush { instance, number, at, uses: uses.map(used).collect() }).await.unwrap();
}

type Condition = Box<dyn Fn(&Model, &System) -> bool + Send>;

/// A random filter, and what it means.
fn filter(model: &Model, rng: &mut StdRng) -> (Json, Vec<Condition>) {
    let (mut filter, mut conditions) = (Map::new(), Vec::<Condition>::new());
    let mut when = |rng: &mut StdRng, name: &str, value: Json, condition: Condition| {
        if rng.random_bool(0.25) {
            filter.insert(name.to_owned(), value);
            conditions.push(condition);
        }
    };
    let state = pick(rng, &["NOT_GENERATED", "ACTIVE", "SUSPENDED"]);
    let is_in_state = move |_: &Model, system: &System| match state {
        "SUSPENDED" => system.suspended.is_some(),
        state => system.suspended.is_none() && system.key.is_some() == (state == "ACTIVE"),
    };
    when(rng, "keyState", state.into(), Box::new(is_in_state));
    let since = hour(rng.random_range(0..10));
    let is_unused = move |model: &Model, system: &System| match model.used(system) {
        Some(used) => used < since,
        None => system.created_at < since,
    };
    when(rng, "unusedSince", since.to_string().into(), Box::new(is_unused));
    let end = hour(rng.random_range(10..20));
    let expires =
        move |_: &Model, system: &System| system.key.as_ref().and_then(|key| key.expires_at).is_some_and(|at| at < end);
    when(rng, "expiresBefore", end.to_string().into(), Box::new(expires));
    let end = hour(rng.random_range(0..10));
    let is_old = move |_: &Model, system: &System| {
        system.key.as_ref().and_then(|key| key.generated_at).is_some_and(|at| at < end)
    };
    when(rng, "generatedBefore", end.to_string().into(), Box::new(is_old));
    let operator = operator_id(rng.random_range(1..4));
    let is_theirs = move |_: &Model, system: &System| {
        system.live_keys().any(|key| key.generated_by.as_ref().is_some_and(|by| by.id == Some(operator.into())))
    };
    when(rng, "generatedById", operator.to_string().into(), Box::new(is_theirs));
    let mark = mark(rng.random_range(0..5));
    let is_marked = move |_: &Model, system: &System| system.live_keys().any(|key| key.mark == mark);
    when(rng, "keyMark", mark.to_string().into(), Box::new(is_marked));
    if rng.random_bool(0.2) {
        let unknown = SystemId::new(START, rng);
        let ids: Vec<_> = model.systems.iter().map(|system| system.id).filter(|_| rng.random_bool(0.5)).collect();
        filter.insert("ids".to_owned(), ids.iter().chain([&unknown]).map(|id| json!(id.to_string())).collect());
        conditions.push(Box::new(move |_: &Model, system: &System| ids.contains(&system.id)));
    }
    if rng.random_bool(0.1) {
        let external_id = external_id(rng.random_range(0..model.systems.len()));
        filter.insert("externalId".to_owned(), json!(external_id));
        conditions.push(Box::new(move |_: &Model, system: &System| {
            system.external_id.as_ref().is_some_and(|id| id.as_str() == external_id)
        }));
    }
    (Json::Object(filter), conditions)
}

/// Ids of the whole list, read page by page from one end. Each page is checked for its totals and its neighbours.
async fn walk(operator: &Operator<'_>, variables: &Map<String, Json>, size: usize, forwards: bool) -> Vec<String> {
    let (mut ids, mut variables) = (Vec::new(), variables.clone());
    variables.insert(if forwards { "first" } else { "last" }.to_owned(), size.into());
    loop {
        let answer = operator.query(DOCUMENT, Json::Object(variables.clone())).await;
        let edges = answer.data("systems.edges").as_array().unwrap();
        let page: Vec<_> = edges.iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()).collect();
        let info = answer.data("systems.pageInfo");
        let (more, cursor) = if forwards { ("hasNextPage", "endCursor") } else { ("hasPreviousPage", "startCursor") };
        let outer = if forwards { edges.last() } else { edges.first() };
        assert_eq!(info[cursor], outer.map_or(Json::Null, |edge| edge["cursor"].clone()));
        assert!(page.len() <= size && (info[more] == false || page.len() == size), "{info}");
        if forwards {
            ids.extend(page);
        } else {
            ids.splice(0..0, page);
        }
        variables.insert(if forwards { "after" } else { "before" }.to_owned(), info[cursor].clone());
        if info[more] == false {
            assert_eq!(answer.data("systems.totalCount"), ids.len());
            return ids;
        }
    }
}

async fn filtered_and_sorted_lists_agree_with_a_plain_list(app: App) {
    let mut rng = StdRng::seed_from_u64(11);
    let model = Model::random(&app, &mut rng, 60).await;
    let switch = Switch::default();
    let cached = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let uncached = app.instance_with(3, Setup::without_leases()).await;
    let operator = app.operator(&ALL).await;
    load(&operator.at(&cached), 1).await;
    let scans = switch.calls(&["scan_systems"]);
    let mut sizes = BTreeSet::new();
    for round in 0..48 {
        let fields = ["NAME", "UPDATED_AT", "CREATED_AT", "LAST_USED_AT", "KEY_GENERATED_AT", "KEY_EXPIRES_AT"];
        let (field, descending) = (fields[round % 6], round % 12 >= 6);
        let (filter, conditions) = filter(&model, &mut rng);
        let search = pick(&mut rng, &["", "", "", "abc", "ÉTÉ", "strasse", "1", "none", "cus_1"]);
        let texts = |system: &System| {
            let description = system.description.as_ref().map(|text| text.folded()).unwrap_or_default();
            let external_id = system.external_id.as_ref().map(|id| id.folded()).unwrap_or_default();
            format!("{}\0{description}\0{external_id}", system.name.folded())
        };
        let needle = keymark::domain::system_names::fold(search);
        let matches = |system: &System| {
            texts(system).contains(&needle) && conditions.iter().all(|condition| condition(&model, system))
        };
        let expected = model.list(matches, field, descending);
        sizes.insert(expected.len());
        let order = json!({ "field": field, "direction": if descending { "DESC" } else { "ASC" } });
        let Json::Object(variables) = json!({ "search": search, "filter": filter, "order": order }) else { continue };
        let size = pick(&mut rng, &[3, 7, 200]);
        for instance in [&cached, &uncached] {
            for forwards in [true, false] {
                let ids = walk(&operator.at(instance), &variables, size, forwards).await;
                assert_eq!(ids, expected, "{variables:?} {size} {forwards}");
            }
        }
    }
    assert!(sizes.len() > 10, "the filters differ: {sizes:?}");
    assert_eq!(switch.calls(&["scan_systems"]), scans, "the cache was used");
}

/// Ids of the systems that match.
async fn filtered(operator: &Operator<'_>, filter: Json) -> Vec<String> {
    let document =
        "query ($filter: SystemFilter) { systems(filter: $filter, first: 200) { totalCount nodes { name } } }";
    let answer = operator.query(document, json!({ "filter": filter })).await;
    let nodes = answer.data("systems.nodes").as_array().unwrap();
    assert_eq!(answer.data("systems.totalCount"), nodes.len());
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

async fn mutate(operator: &Operator<'_>, field: &str, selection: &str) -> Json {
    let answer = operator.query(&format!("mutation {{ result: {field} {{ {selection} }} }}"), json!({})).await;
    answer.data("result").clone()
}

async fn change_is_in_the_filters_of_another_instance_when_its_response_is_sent(app: App) {
    let switch = Switch::default();
    let second = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let here = app.operator(&ALL).await;
    let there = here.at(&second);
    here.create_system("Payroll").await;
    load(&there, 1).await;
    let scans = switch.calls(&["scan_systems"]);
    let viewer = here.query("{ viewer { id } }", json!({})).await.data("viewer.id").clone();
    for round in 0..8 {
        let name = format!("Billing {round}");
        let none: [String; 0] = [];
        let found = [name.clone()];
        let system = here.create_system(&name).await;
        let id = &system.id;
        let ungenerated = ["Payroll".to_owned()];
        assert_eq!(filtered(&there, json!({ "keyState": "ACTIVE" })).await, none);
        let first = here.generate_key(id).await.system.key_mark.unwrap();
        assert_eq!(filtered(&there, json!({ "keyState": "ACTIVE" })).await, found);
        assert_eq!(filtered(&there, json!({ "keyState": "NOT_GENERATED" })).await, ungenerated);
        assert_eq!(filtered(&there, json!({ "keyMark": first, "generatedById": viewer })).await, found);
        let rotated = mutate(&here, &format!("rotateKey(systemId: \"{id}\")"), "system { keyMark }").await;
        for mark in [&json!(first), &rotated["system"]["keyMark"]] {
            assert_eq!(filtered(&there, json!({ "keyMark": mark })).await, found, "current and retiring");
        }
        mutate(&here, &format!("endRotation(systemId: \"{id}\")"), "system { id }").await;
        assert_eq!(filtered(&there, json!({ "keyMark": first })).await, none);
        let end = hour(48).to_string();
        let expiry = format!("setKeyExpiry(systemId: \"{id}\", expiresAt: \"{end}\")");
        assert_eq!(filtered(&there, json!({ "expiresBefore": hour(49).to_string() })).await, none);
        mutate(&here, &expiry, "system { id }").await;
        assert_eq!(filtered(&there, json!({ "expiresBefore": hour(49).to_string() })).await, found);
        assert_eq!(filtered(&there, json!({ "expiresBefore": end })).await, none, "not at the time itself");
        mutate(&here, &format!("suspendSystem(id: \"{id}\")"), "system { id }").await;
        assert_eq!(filtered(&there, json!({ "keyState": "SUSPENDED" })).await, found);
        assert_eq!(filtered(&there, json!({ "keyState": "ACTIVE" })).await, none);
        mutate(&here, &format!("resumeSystem(id: \"{id}\")"), "system { id }").await;
        assert_eq!(filtered(&there, json!({ "keyState": "SUSPENDED" })).await, none);
        here.revoke_key(id).await;
        assert_eq!(filtered(&there, json!({ "keyState": "NOT_GENERATED" })).await, [name, "Payroll".to_owned()]);
        assert_eq!(filtered(&there, json!({ "generatedById": viewer })).await, none);
        here.delete_system(id).await;
        assert_eq!(filtered(&there, json!({ "keyState": "NOT_GENERATED" })).await, ungenerated);
    }
    assert_eq!(switch.calls(&["scan_systems"]), scans, "all filters used the cache");
}

async fn use_is_in_filters_and_orders_once_it_was_added(app: App) {
    let stopwatch = SkippingStopwatch::default();
    let switch = Switch::default();
    let setup = Setup { stopwatch: Arc::new(stopwatch.clone()), switch: Some(switch.clone()), ..Setup::default() };
    let cached = app.instance_with(2, setup).await;
    let uncached = app.instance_with(3, Setup::without_leases()).await;
    let operator = app.operator(&ALL).await;
    let mut ids = Vec::new();
    for name in ["Old one", "Old two", "Old three"] {
        ids.push(operator.create_system(name).await.id.parse::<SystemId>().unwrap());
    }
    let operators = [operator.at(&cached), operator.at(&uncached)];
    load(&operators[0], 1).await;
    let unused = |hours| json!({ "unusedSince": hour(hours).to_string() });
    for operator in &operators {
        assert_eq!(filtered(operator, unused(0)).await, [""; 0], "created at that time");
        assert_eq!(filtered(operator, unused(1)).await.len(), 3);
    }
    // The instances' clocks differ: the second flush is dated before the read above.
    let minute_before = START.minus(Duration::from_secs(40));
    for (number, at, use_of, used_at, left) in [
        (1, START, ids[1], hour(2), ["Old one", "Old three"].as_slice()),
        (2, minute_before, ids[0], hour(1), &["Old three"]),
        (3, START, ids[0], hour(3), &["Old three"]),
    ] {
        add_uses(&app, number, at, [(use_of, used_at)].into_iter()).await;
        // The cached uses are refreshed when they are older.
        stopwatch.skip(Duration::from_secs(3));
        cached.wait_for_cache().await;
        for operator in &operators {
            assert_eq!(filtered(operator, unused(1)).await, left);
        }
    }
    let document = "query ($o: SystemOrder) { systems(orderBy: $o) { nodes { name } } }";
    for operator in &operators {
        for (direction, expected) in
            [("ASC", ["Old two", "Old one", "Old three"]), ("DESC", ["Old one", "Old two", "Old three"])]
        {
            let order = json!({ "o": { "field": "LAST_USED_AT", "direction": direction } });
            let listed = operator.query(document, order).await;
            let nodes = listed.data("systems.nodes").as_array().unwrap();
            assert_eq!(nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        }
        assert_eq!(filtered(operator, unused(3)).await, ["Old three", "Old two"]);
    }
    let reads = switch.calls(&["list_last_uses"]);
    for _ in 0..5 {
        filtered(&operators[0], unused(1)).await;
    }
    assert!(switch.calls(&["list_last_uses"]) <= reads + 1, "cached uses are not read for each list");
}

async fn system_that_is_changed_during_a_filter_is_not_returned_as_it_was(app: App) {
    let switch = Switch::default();
    let cached = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let other = Switch::default();
    let uncached = app.instance_with(3, Setup { switch: Some(other.clone()), ..Setup::without_leases() }).await;
    let app = Arc::new(app);
    let operator = app.operator(&ALL).await;
    load(&operator.at(&cached), 1).await;
    for (switch, instance, call) in [(&switch, &cached, "audit_head"), (&other, &uncached, "scan_systems")] {
        let system = operator.create_system(&format!("Changed {call}")).await;
        operator.create_system(&format!("Stays {call}")).await;
        let (first, token) = (Arc::clone(&app), operator.token.clone());
        switch.after(call, async move {
            let suspension = format!("mutation {{ suspendSystem(id: \"{}\") {{ system {{ id }} }} }}", system.id);
            first.anonymous().bearing(&token).query(&suspension, json!({})).await.data("suspendSystem.system.id");
        });
        let document = "query { systems(filter: { keyState: NOT_GENERATED }) { nodes { name keyState } } }";
        let answer = operator.at(instance).query(document, json!({})).await;
        let names: Vec<_> = answer.data("systems.nodes").as_array().unwrap().iter().map(|n| &n["name"]).collect();
        assert!(!names.contains(&&json!(format!("Changed {call}"))), "{call}: {names:?}");
        assert!(names.contains(&&json!(format!("Stays {call}"))), "{call}: {names:?}");
    }
}

async fn filter_finds_no_system_of_another_tenant(app: App) {
    let uncached = app.instance_with(2, Setup::without_leases()).await;
    let (acme, bolt) = (app.operator_of("acme", &ALL).await, app.operator_of("bolt", &ALL).await);
    let mut marks = Vec::new();
    for (operator, name) in [(&acme, "Of Acme"), (&bolt, "Of Bolt")] {
        let system = operator.create_system(name).await;
        marks.push(operator.generate_key(&system.id).await.system.key_mark.unwrap());
        add_uses(&app, marks.len() as u64, START, [(system.id.parse().unwrap(), hour(1))].into_iter()).await;
    }
    for instance in [&app, &uncached] {
        for (operator, name, own, foreign) in [(&acme, "Of Acme", 0, 1), (&bolt, "Of Bolt", 1, 0)] {
            let operator = operator.at(instance);
            assert_eq!(filtered(&operator, json!({ "keyState": "ACTIVE" })).await, [name]);
            assert_eq!(filtered(&operator, json!({ "keyMark": marks[own] })).await, [name]);
            assert_eq!(filtered(&operator, json!({ "keyMark": marks[foreign] })).await, [""; 0]);
        }
        // The use that was added for Acme is of a system of Bolt too.
        let unused = json!({ "unusedSince": hour(1).to_string() });
        assert_eq!(filtered(&bolt.at(instance), unused.clone()).await, ["Of Bolt"]);
        assert_eq!(filtered(&acme.at(instance), unused).await, [""; 0]);
    }
}

async fn text_that_is_no_id_or_mark_matches_nothing(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let mark = operator.generate_key(&system.id).await.system.key_mark.unwrap();
    for filter in [
        json!({ "keyMark": "" }),
        json!({ "keyMark": format!("{mark}x") }),
        json!({ "keyMark": "****" }),
        json!({ "generatedById": system.id }),
        json!({ "generatedById": "" }),
    ] {
        assert_eq!(filtered(&operator, filter.clone()).await, [""; 0], "{filter}");
    }
    assert_eq!(filtered(&operator, json!({})).await, ["Billing"]);
    let malformed = operator.query("{ systems(filter: { unusedSince: \"soon\" }) { totalCount } }", json!({})).await;
    assert_eq!(malformed.code(), Some("BAD_USER_INPUT"));
}

async fn description_is_searched_with_the_name(app: App) {
    let uncached = app.instance_with(2, Setup::without_leases()).await;
    let operator = app.operator(&ALL).await;
    load(&operator, 1).await;
    let billing = operator.create_system("Billing").await;
    operator.create_system("Invoices").await;
    for (description, names) in [("Sends INVOICES to Straße", ["Billing", "Invoices"].as_slice()), ("", &["Invoices"])]
    {
        let describe = format!("describeSystem(id: \"{}\", description: \"{description}\")", billing.id);
        mutate(&operator, &describe, "system { id }").await;
        for instance in [&app, &uncached] {
            assert_eq!(found(&operator.at(instance), "invoices").await, names);
            let both = found(&operator.at(instance), "strasse").await;
            assert_eq!(both.len(), names.len() - 1);
        }
    }
}
