//! Operators and their sessions: usernames are unique across tenants, and sessions exist until they are deleted.

use keymark::domain::changes::Row;
use keymark::domain::operators::Operator;
use keymark::domain::permissions::{Permission, Permissions};
use keymark::domain::sessions::Session;
use keymark::store::{Conflict, Purged, Store};

use super::Factory;
use super::fixtures::*;

pub async fn operator_is_found_by_id_and_by_username(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = added(&*store, &mut acme, "Ada.L+1@example-site_2").await;
    added(&*store, &mut acme, "bob").await;

    assert_eq!(ada.username.as_str(), "ada.l+1@example-site_2");
    assert_eq!(store.find_operator(ada.id).await.unwrap(), Some(ada.clone()));
    assert_eq!(store.find_operator_by_username(&ada.username).await.unwrap(), Some(ada.clone()));
    let stranger = acme.operator("stranger");
    assert_eq!(store.find_operator(stranger.id).await.unwrap(), None);
    assert_eq!(store.find_operator_by_username(&stranger.username).await.unwrap(), None);
    assert_eq!(store.find_operator_by_username(&username_of("ada")).await.unwrap(), None);
}

pub async fn usernames_are_unique_across_tenants(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let ada = added(&*store, &mut acme, "ada").await;

    for tenant in [&mut acme, &mut bolt] {
        let namesake = tenant.operator("Ada");
        let add = tenant.add(&namesake);
        assert_eq!(refused(&*store, add).await, Conflict::UsernameTaken);
    }
    assert_eq!(store.find_operator_by_username(&ada.username).await.unwrap(), Some(ada));
}

pub async fn freed_username_is_available_to_another_tenant(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let ada = added(&*store, &mut acme, "ada").await;

    let remove = acme.remove(&ada, &[]);
    commit(&*store, remove).await;
    let heir = added(&*store, &mut bolt, "ada").await;

    assert_eq!(store.find_operator(ada.id).await.unwrap(), None);
    assert_eq!(store.find_operator_by_username(&ada.username).await.unwrap(), Some(heir.clone()));
    assert_eq!(store.list_operators(Some(&acme.id)).await.unwrap(), []);
    assert_eq!(store.list_operators(None).await.unwrap(), [heir]);
}

pub async fn operators_are_listed_by_username(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let zoe = added(&*store, &mut acme, "zoe").await;
    let dot = added(&*store, &mut bolt, "a.b").await;
    let plain = added(&*store, &mut acme, "ab").await;
    let digit = added(&*store, &mut bolt, "1st").await;
    let low = added(&*store, &mut acme, "a_b").await;

    assert_eq!(
        store.list_operators(Some(&acme.id)).await.unwrap(),
        [low.clone(), plain.clone(), zoe.clone()],
        "in ASCII order, where _ precedes b"
    );
    assert_eq!(store.list_operators(Some(&bolt.id)).await.unwrap(), [digit.clone(), dot.clone()]);
    assert_eq!(store.list_operators(None).await.unwrap(), [digit, dot, low, plain, zoe]);
    assert_eq!(store.list_operators(Some(&tenant_id("no-operators"))).await.unwrap(), []);
}

pub async fn replace_writes_the_whole_operator(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = added(&*store, &mut acme, "ada").await;
    acme.now = acme.now.plus(SECOND);

    let viewer: Permissions = [Permission::View].into_iter().collect();
    let (changed, batch) = acme.permit(&ada, viewer);
    commit(&*store, batch).await;

    assert_eq!((changed.revision, changed.permissions, changed.updated_at), (2, viewer, START.plus(SECOND)));
    assert_eq!(store.find_operator(ada.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(store.find_operator_by_username(&ada.username).await.unwrap(), Some(changed.clone()));
    let (changed, batch) = acme.set_password(&changed, "$argon2id$v=19$m=19456,t=2,p=1$b3RoZXJzYWx0$b3RoZXI");
    commit(&*store, batch).await;
    assert_eq!((changed.revision, changed.password_version), (3, 2));
    assert_eq!(store.find_operator(ada.id).await.unwrap().as_ref(), Some(&changed));
    assert_eq!(store.list_operators(Some(&acme.id)).await.unwrap(), [changed]);
    let (_, stale) = acme.permit(&ada, Permissions::NONE);
    assert_eq!(refused(&*store, stale).await, Conflict::Row);
    let stale = acme.remove(&ada, &[]);
    assert_eq!(refused(&*store, stale).await, Conflict::Row);
}

pub async fn the_end_of_a_first_password_is_stored_until_the_password_is_replaced(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = acme.operator("ada").with_first_password();
    let add = acme.add(&ada);
    commit(&*store, add).await;
    assert_eq!(store.find_operator(ada.id).await.unwrap(), Some(ada.clone()));
    assert_eq!(ada.password_expires_at, Some(START.plus(SECOND * 24 * 60 * 60)));

    let (changed, batch) = acme.permit(&ada, Permissions::NONE);
    commit(&*store, batch).await;
    assert_eq!(store.find_operator(ada.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(changed.password_expires_at, ada.password_expires_at);
    let (changed, batch) = acme.set_password(&changed, "$argon2id$v=19$m=19456,t=2,p=1$b3RoZXJzYWx0$b3RoZXI");
    commit(&*store, batch).await;
    assert_eq!(store.find_operator(ada.id).await.unwrap().map(|ada| ada.password_expires_at), Some(None));
    assert_eq!(store.list_operators(Some(&acme.id)).await.unwrap(), [changed]);
}

pub async fn one_of_50_concurrent_additions_of_a_username_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt", "cube"].map(tenant);
    let namesakes: Vec<_> = (0..50).map(|i| tenants[i % 3].operator("ada")).collect();

    let batches = namesakes.iter().enumerate().map(|(i, namesake)| tenants[i % 3].add(namesake)).collect();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::UsernameTaken; 49]);
    assert_eq!(instances[0].list_operators(None).await.unwrap(), [namesakes[winner].clone()]);
    assert_eq!(instances[0].list_tenants().await.unwrap(), [namesakes[winner].tenant.clone()]);
}

pub async fn session_is_found_until_it_is_deleted(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (ada, bob) = (added(&*store, &mut acme, "ada").await, added(&*store, &mut acme, "bob").await);
    let phone = signed_in(&*store, &mut acme, &ada).await;
    let laptop = signed_in(&*store, &mut acme, &ada).await;
    let bobs = signed_in(&*store, &mut acme, &bob).await;

    assert_eq!(store.find_session(phone.id).await.unwrap(), Some(phone.clone()));
    assert_eq!(sessions(&*store, &ada).await, sorted_by_id(vec![phone.clone(), laptop.clone()]));
    let never_used = acme.session(&ada);
    assert_eq!(store.find_session(never_used.id).await.unwrap(), None);

    let sign_out = acme.sign_out(&phone);
    commit(&*store, sign_out).await;
    assert_eq!(store.find_session(phone.id).await.unwrap(), None);
    assert_eq!(sessions(&*store, &ada).await, [laptop]);
    assert_eq!(sessions(&*store, &bob).await, [bobs]);

    let again = acme.sign_out(&phone);
    assert_eq!(commit(&*store, again).await.number, 7, "deleting a missing session is no conflict");
}

pub async fn sessions_are_deleted_with_their_operator(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = added(&*store, &mut acme, "ada").await;
    let signed_in = [signed_in(&*store, &mut acme, &ada).await, signed_in(&*store, &mut acme, &ada).await];

    let remove = acme.remove(&ada, &signed_in);
    commit(&*store, remove).await;

    assert_eq!(sessions(&*store, &ada).await, []);
    assert_eq!(store.find_session(signed_in[0].id).await.unwrap(), None);
    let late = acme.session(&ada);
    let late = acme.sign_in(&late).requires(&Row::Operator(ada));
    assert_eq!(refused(&*store, late).await, Conflict::Row);
}

pub async fn ended_sessions_are_listed_until_they_are_purged(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let ada = added(&*store, &mut acme, "ada").await;
    let ended = signed_in(&*store, &mut acme, &ada).await;
    acme.now = acme.now.plus(SECOND);
    let ending = signed_in(&*store, &mut acme, &ada).await;
    acme.now = acme.now.plus(SECOND);
    let lasting = signed_in(&*store, &mut acme, &ada).await;
    let all = vec![ended.clone(), ending.clone(), lasting.clone()];
    assert_eq!(sessions(&*store, &ada).await, sorted_by_id(all));

    let purged = store.purge(ending.expires_at, START).await.unwrap();

    assert_eq!(purged, Purged { keys: 0, sessions: 1 });
    assert_eq!(store.find_session(ended.id).await.unwrap(), None);
    assert_eq!(sessions(&*store, &ada).await, sorted_by_id(vec![ending, lasting]));
}

pub async fn oldest_sessions_of_a_password_are_listed_and_those_of_earlier_ones_purged(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (ada, bob) = (added(&*store, &mut acme, "ada").await, added(&*store, &mut acme, "bob").await);
    let bobs = signed_in(&*store, &mut acme, &bob).await;
    let mut opened = Vec::new();
    for _ in 0..3 {
        acme.now = acme.now.plus(SECOND);
        opened.push(signed_in(&*store, &mut acme, &ada).await);
    }
    let (changed, batch) = acme.set_password(&ada, "$argon2id$v=19$m=19456,t=2,p=1$b3RoZXJzYWx0$b3RoZXI");
    commit(&*store, batch).await;
    let last = signed_in(&*store, &mut acme, &changed).await;

    assert_eq!(store.list_oldest_sessions(ada.id, 1, 2).await.unwrap(), opened[..2]);
    assert_eq!(store.list_oldest_sessions(ada.id, 1, 100).await.unwrap(), opened);
    assert_eq!(store.list_oldest_sessions(ada.id, 2, 100).await.unwrap(), std::slice::from_ref(&last));
    assert_eq!(store.list_oldest_sessions(ada.id, 3, 100).await.unwrap(), []);

    assert_eq!(store.purge_sessions(ada.id, 2).await.unwrap(), 3);
    assert_eq!(store.purge_sessions(ada.id, 2).await.unwrap(), 0);
    assert_eq!(sessions(&*store, &ada).await, [last]);
    assert_eq!(sessions(&*store, &bob).await, [bobs]);
}

/// Adds an operator.
pub async fn added(store: &dyn Store, tenant: &mut Tenant, username: &str) -> Operator {
    let operator = tenant.operator(username);
    let add = tenant.add(&operator);
    commit(store, add).await;
    operator
}

pub async fn signed_in(store: &dyn Store, tenant: &mut Tenant, operator: &Operator) -> Session {
    let session = tenant.session(operator);
    let sign_in = tenant.sign_in(&session);
    commit(store, sign_in).await;
    session
}

/// The operator's sessions, sorted by id, since the store returns them in no order.
pub async fn sessions(store: &dyn Store, operator: &Operator) -> Vec<Session> {
    sorted_by_id(store.list_sessions(operator.id).await.unwrap())
}

fn sorted_by_id(mut sessions: Vec<Session>) -> Vec<Session> {
    sessions.sort_by_key(|session| String::from(session.id));
    sessions
}
