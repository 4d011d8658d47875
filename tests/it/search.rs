//! Searches through cached names find the same systems as the store, on every instance.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keymark::domain::ids::TenantId;
use keymark::domain::pages::{Page, PageEnd, PageRequest};
use keymark::domain::system_lists::SystemQuery;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, SystemOrder, SystemOrderField};
use keymark::http::PublicFeatures;
use mongodb::bson::{Document, doc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::actors::{ALL, App, Operator, Setup};
use crate::support::faulty::Switch;
use crate::support::{on_both_stores, within};

on_both_stores![
    search_in_the_cache_finds_what_the_store_finds,
    change_is_found_on_another_instance_when_its_response_is_sent,
    names_loaded_during_changes_are_complete,
    page_with_a_system_changed_meanwhile_is_searched_again,
    search_finds_no_system_of_another_tenant,
    instance_without_a_cache_searches_the_store,
];

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// Number of tenants whose names the instance has cached.
fn loaded(app: &App) -> usize {
    app.coherence.read(|cache| cache.names.size().0).unwrap_or(0)
}

/// Searches until the names of this many tenants are cached.
pub async fn load(operator: &Operator<'_>, tenants: usize) {
    within(async {
        let mut attempts = 0..;
        while loaded(operator.app) < tenants {
            // Another text each time, since a cached answer loads no names.
            found(operator, &format!("anything {}", attempts.next().unwrap_or(0))).await;
        }
    })
    .await;
}

/// Names of the systems found, in alphabetical order.
pub async fn found(operator: &Operator<'_>, needle: &str) -> Vec<String> {
    let document = "query ($s: String) { systems(search: $s, first: 200) { nodes { name } totalCount } }";
    let response = operator.query(document, json!({ "s": needle })).await;
    let nodes = response.data("systems.nodes").as_array().unwrap();
    let names: Vec<_> = nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(response.data("systems.totalCount"), names.len(), "{names:?}");
    names
}

/// Makes random changes, and after each of them searches a random page on another instance.
async fn search_in_the_cache_finds_what_the_store_finds(app: App) {
    let (second, tenant) = (app.instance(2).await, acme());
    let operator = app.operator(&ALL).await;
    load(&operator.at(&second), 1).await;
    let mut rng = StdRng::seed_from_u64(5);
    let mut systems = BTreeSet::<String>::new();
    for round in 0..120 {
        let name = format!("{} {round}", ["Straße", "ABC", "été", "a.b*c", "日本"][rng.random_range(0..5)]);
        app.clock.advance(Duration::from_millis(rng.random_range(0..3)));
        match (rng.random_range(0..10), systems.iter().nth(rng.random_range(0..20)).cloned()) {
            (0..2, Some(id)) => {
                operator.delete_system(&id).await;
                systems.remove(&id);
            }
            (2..4, Some(id)) => drop(operator.rename_system(&id, &name).await),
            (4, Some(id)) => drop(operator.try_generate_key(&id).await),
            (5, Some(id)) => drop(operator.try_revoke_key(&id).await),
            _ => {
                systems.insert(operator.create_system(&name).await.id);
            }
        }

        let field = [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt];
        let order = SystemOrder {
            field: field[rng.random_range(0..3)],
            direction: [Direction::Ascending, Direction::Descending][rng.random_range(0..2)],
        };
        let search = Search::parse(["S", "b", "É", ".", "*", "日", " 1", "none", "", "ss"][rng.random_range(0..10)]);
        let page = PageRequest::first(rng.random_range(1..8));
        let all = app.store.list_systems(&tenant, &Search::All, order, &PageRequest::first(999)).await.unwrap().items;
        let mut place = || all.get(rng.random_range(0..40)).map(|system| order.field.key_of(system));
        let (after, before) = (place(), place());
        let from = [PageEnd::First, PageEnd::Last][rng.random_range(0..2)];
        let page = PageRequest { after, before, from, ..page };

        let query = SystemQuery::from(search.clone());
        let ours = second.coherence.list_systems(&tenant, &query, order.into(), &page).await.unwrap();
        let ours = Page { items: ours.items.into_iter().map(|(_, system)| system).collect(), has_more: ours.has_more };
        assert_eq!(ours, app.store.list_systems(&tenant, &search, order, &page).await.unwrap(), "{search:?} {page:?}");
        let count = second.coherence.count_systems(&tenant, &query).await.unwrap();
        assert_eq!(count, app.store.count_systems(&tenant, &search).await.unwrap(), "{search:?}");
    }
    assert_eq!(loaded(&second), 1);
}

async fn change_is_found_on_another_instance_when_its_response_is_sent(app: App) {
    let switch = Switch::default();
    let second = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let here = app.operator(&ALL).await;
    let there = here.at(&second);
    load(&there, 1).await;
    let store_searched = Arc::new(AtomicBool::new(false));
    for call in ["list_systems", "count_systems"] {
        let store_searched = Arc::clone(&store_searched);
        switch.after(call, async move { store_searched.store(true, Ordering::SeqCst) });
        for round in 0..20 {
            let name = format!("{call} {round}");
            let system = here.create_system(&name).await;
            assert_eq!(found(&there, &name).await, [name.as_str()]);
            here.rename_system(&system.id, &format!("Renamed {round}")).await;
            assert_eq!(found(&there, &name).await, [""; 0]);
            assert_eq!(found(&there, &format!("RENAMED {round}")).await, [format!("Renamed {round}")]);
            here.delete_system(&system.id).await;
            assert_eq!(found(&there, &format!("renamed {round}")).await, [""; 0]);
        }
    }
    assert!(!store_searched.load(Ordering::SeqCst), "all searches used the cache");
}

async fn names_loaded_during_changes_are_complete(app: App) {
    let operator = app.operator(&ALL).await;
    for n in 0..50 {
        operator.create_system(&format!("System {n:02}")).await;
    }
    let all = "{ systems(first: 200) { nodes { id name } } }";
    let response = operator.query(all, json!({})).await;
    let systems = response.data("systems.nodes").as_array().unwrap().clone();
    for number in 2..5 {
        let second = app.instance(number).await;
        let there = operator.at(&second);
        let renaming = async {
            for system in &systems {
                let (id, name) = (system["id"].as_str().unwrap(), system["name"].as_str().unwrap());
                operator.rename_system(id, &format!("{name} by {number}")).await;
                assert_eq!(found(&there, &format!("{name} by {number}")).await.len(), 1);
            }
        };
        futures::join!(renaming, load(&there, 1));
        assert_eq!(found(&there, &format!(" by {number}")).await.len(), 50);
        assert_eq!(found(&there, "system").await.len(), 50);
    }
}

async fn page_with_a_system_changed_meanwhile_is_searched_again(app: App) {
    let switch = Switch::default();
    // Without cached answers, for which the end of the log is read too.
    let features = PublicFeatures { introspection: true, graphiql: true, answer_bytes: 0 };
    let second = app.instance_with(2, Setup { switch: Some(switch.clone()), features, ..Setup::default() }).await;
    let app = Arc::new(app);
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    operator.create_system("Billing too").await;
    let there = operator.at(&second);
    load(&there, 1).await;

    // The search has read the end of the log, and is about to search the cached names.
    let (first, id, token) = (Arc::clone(&app), system.id.clone(), operator.token.clone());
    switch.after("audit_head", async move {
        let document = "mutation ($id: ID!) { renameSystem(id: $id, name: \"Payroll\") { system { id } } }";
        let renamed = first.anonymous().bearing(&token).query(document, json!({ "id": id })).await;
        assert_eq!(renamed.data("renameSystem.system.id"), id.as_str());
    });
    assert_eq!(found(&there, "billing").await, ["Billing too"]);
}

async fn search_finds_no_system_of_another_tenant(app: App) {
    let (acme, bolt) = (app.operator_of("acme", &ALL).await, app.operator_of("bolt", &ALL).await);
    acme.create_system("Billing of Acme").await;
    bolt.create_system("Billing of Bolt").await;
    load(&acme, 1).await;
    load(&bolt, 2).await;
    for (operator, other, own) in [(&acme, &bolt, "Acme"), (&bolt, &acme, "Bolt")] {
        assert_eq!(found(operator, "billing").await, [format!("Billing of {own}")]);
        let mine = operator.create_system(&format!("Payroll of {own}")).await;
        assert_eq!(found(other, &format!("of {own}")).await, [""; 0]);
        assert_eq!(found(operator, &format!("of {own}")).await.len(), 2);
        operator.delete_system(&mine.id).await;
    }
}

async fn instance_without_a_cache_searches_the_store(app: App) {
    let second = app.instance_with(2, Setup::without_leases()).await;
    let operator = app.operator(&ALL).await;
    for round in 0..5 {
        operator.create_system(&format!("System {round}")).await;
        assert_eq!(found(&operator.at(&second), "system").await.len(), round + 1);
    }
    assert_eq!(loaded(&second), 0);
}

/// A document is patched without Keymark. The feed cannot represent that, so it counts as lost and the cache is reloaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_feed_drops_the_names() {
    let app = App::mongodb().await;
    let operator = app.operator(&ALL).await;
    operator.create_system("Billing").await;
    load(&operator, 1).await;
    assert_eq!(found(&operator, "billing").await, ["Billing"]);

    let systems = app.database().await.collection::<Document>("systems");
    let patch = doc! { "$set": { "name": "Payroll", "folded": "payroll" } };
    systems.update_one(doc! { "tenant": "acme" }, patch).await.unwrap();
    app.wait_until(async || loaded(&app) == 0).await;
    assert_eq!(found(&operator, "payroll").await, ["Payroll"]);
    load(&operator, 1).await;
    assert_eq!(found(&operator, "payroll").await, ["Payroll"]);
    operator.create_system("Payroll too").await;
    assert_eq!(found(&operator, "payroll").await, ["Payroll", "Payroll too"]);
}
