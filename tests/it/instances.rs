//! The instances that an administrator of the platform sees.

use keymark::service::InstanceState;

use crate::support::actors::App;
use crate::support::on_both_stores;

on_both_stores![an_instance_knows_itself_and_the_others];

async fn an_instance_knows_itself_and_the_others(app: App) {
    app.wait_for_cache().await;
    let alone = app.service.known_instances();
    let [own] = alone[..] else { panic!("{alone:?}") };
    assert!(own.is_current && own.state == InstanceState::Cached && own.incarnation.is_some(), "{own:?}");
    if app.is_embedded() {
        return;
    }
    let other = app.instance(2).await;
    app.wait_until(async || app.service.known_instances().len() == 2).await;
    other.wait_for_cache().await;
    app.wait_until(async || app.service.known_instances().iter().all(|known| known.state == InstanceState::Cached))
        .await;
    let (ids, known) = (app.service.known_instances(), other.service.known_instances());
    assert_eq!((ids[0].incarnation, ids[1].incarnation), (known[1].incarnation, known[0].incarnation));
    assert!(known[0].is_current && !known[1].is_current);
}
