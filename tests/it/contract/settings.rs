//! Settings and markers: of concurrent callers that set one, exactly one succeeds.

use std::sync::Arc;

use keymark::domain::audit::AuditAction;
use keymark::store::{Conflict, Store};

use super::Factory;
use super::fixtures::*;

pub async fn ping_succeeds(factory: &dyn Factory) {
    for store in instances(factory).await {
        assert!(matches!(store.ping().await, Ok(())));
    }
}

pub async fn setting_is_replaced_only_if_as_expected(factory: &dyn Factory) {
    let store = factory.open().await;
    let name = "secret.fingerprint $1";
    let setting = || async { store.find_setting(name).await.unwrap() };
    assert_eq!(setting().await, None);

    assert!(!store.replace_setting(name, Some("one"), "two").await.unwrap());
    assert_eq!(setting().await, None);
    assert!(store.replace_setting(name, None, "one").await.unwrap());
    assert_eq!(setting().await.as_deref(), Some("one"));
    assert!(!store.replace_setting(name, None, "two").await.unwrap());
    assert!(!store.replace_setting(name, Some("ONE"), "two").await.unwrap());
    assert_eq!(setting().await.as_deref(), Some("one"));
    assert!(store.replace_setting(name, Some("one"), "one").await.unwrap(), "the value may stay the same");
    assert!(store.replace_setting(name, Some("one"), "").await.unwrap());
    assert_eq!(setting().await.as_deref(), Some(""));
    assert!(store.replace_setting(name, Some(""), "$two.日本").await.unwrap());
    assert_eq!(setting().await.as_deref(), Some("$two.日本"));
    assert_eq!(store.find_setting("secret").await.unwrap(), None);
}

pub async fn settings_are_listed_by_their_prefix(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    for name in
        ["sign", "sign/", "sign/acme", "sign/日本", "sign/\u{ffff}", "sign0", "signs/acme", "Sign/acme", "$sign/x"]
    {
        assert!(store.replace_setting(name, None, &format!("of {name}")).await.unwrap());
    }
    commit(&*store, acme.note(AuditAction::SignedIn).once("sign/marker")).await;

    let mut found = store.list_settings("sign/").await.unwrap();
    found.sort();
    let expected = ["sign/", "sign/acme", "sign/日本", "sign/\u{ffff}"];
    assert_eq!(found, expected.map(|name| (name.to_owned(), format!("of {name}"))));
    assert_eq!(store.list_settings("sign/none").await.unwrap(), []);
}

pub async fn one_of_20_concurrent_replacements_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut expected: Option<String> = None;
    for round in 0..3 {
        let values: Vec<_> = (0..20).map(|i| format!("{round}/{i}")).collect();
        let replace = |store: Arc<dyn Store>, value: String| {
            let expected = expected.clone();
            async move { store.replace_setting("name", expected.as_deref(), &value).await.unwrap() }
        };

        let won = concurrently(&instances, values.clone(), replace).await;

        let winners: Vec<_> = values.into_iter().zip(won).filter_map(|(value, won)| won.then_some(value)).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        for store in &instances {
            assert_eq!(store.find_setting("name").await.unwrap().as_ref(), Some(&winners[0]));
        }
        expected = Some(winners[0].clone());
    }
}

pub async fn marker_is_set_once(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    assert!(!store.has_marker("first start").await.unwrap());

    let first = acme.note(AuditAction::OperatorAdded).once("first start");
    commit(&*store, first).await;

    assert!(store.has_marker("first start").await.unwrap());
    assert!(!store.has_marker("first").await.unwrap());
    for tenant in [&mut acme, &mut bolt] {
        let again = tenant.note(AuditAction::OperatorAdded).once("first start");
        assert_eq!(refused(&*store, again).await, Conflict::Marker);
    }
    let another = bolt.note(AuditAction::OperatorAdded).once("another");
    commit(&*store, another).await;
}

pub async fn one_of_20_concurrent_batches_with_a_marker_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut tenants = ["acme", "bolt"].map(tenant);
    let admins: Vec<_> = (0..20).map(|i| tenants[i % 2].operator(&format!("admin-{i}"))).collect();

    let batches = admins.iter().enumerate().map(|(i, admin)| tenants[i % 2].add(admin).once("first start")).collect();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::Marker; 19]);
    assert_eq!(instances[0].list_operators(None).await.unwrap(), [admins[winner].clone()]);
}
