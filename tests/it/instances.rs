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
    // In one condition, since a lease can lapse and be renewed at any time.
    let each_knows_the_other = async || {
        let (here, there) = (app.service.known_instances(), other.service.known_instances());
        let ([own, peer], [peer_own, peer_peer]) = (&here[..], &there[..]) else { return false };
        let are_cached = here.iter().chain(&there).all(|known| known.state == InstanceState::Cached);
        let are_the_same = own.incarnation == peer_peer.incarnation && peer.incarnation == peer_own.incarnation;
        are_cached && are_the_same && own.is_current && !peer.is_current
    };
    app.wait_until(each_knows_the_other).await;
}
