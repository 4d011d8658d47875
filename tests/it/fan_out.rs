//! Many subscribers on several instances, and subscribers that do not keep up.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use keymark::http::graphql::TransportLimits;
use keymark::http::websocket::ConnectionLimits;
use serde_json::{Value as Json, json};

use crate::support::actors::{ALL, App};
use crate::support::sockets::{Event, Socket, Subscription};
use crate::support::{on_both_stores, within};

on_both_stores![
    every_subscriber_receives_each_change_once_and_in_order,
    stalled_subscriber_is_disconnected_and_resumes_from_its_cursor,
];

/// Two selections whose payloads subscribers share, and a third whose payload depends on a variable.
const DOCUMENTS: [&str; 3] = [
    "subscription ($after: String) { systemChanged(after: $after) { system { name } } }",
    "subscription ($after: String) { systemChanged(after: $after) { cursor entry { number } system { name } } }",
    "subscription ($after: String, $more: Boolean!) { systemChanged(after: $after) {
        kind @include(if: $more) system { name } } }",
];

fn name_in(change: &Json) -> &str {
    change["system"]["name"].as_str().expect("a name")
}

async fn every_subscriber_receives_each_change_once_and_in_order(app: App) {
    let instances = [app.instance(2).await, app.instance(3).await];
    let operator = app.operator(&ALL).await;
    let stranger = app.operator_of("elsewhere", &ALL).await;
    let authors = [operator.at(&instances[0]), operator.at(&instances[1])];
    let first = operator.create_system("Renamed 0").await;
    let after = operator.newest_cursor().await;
    let addresses = [app.listen().await, instances[0].listen().await, instances[1].listen().await];
    let subscribe = |i: usize| {
        let (address, document) = (addresses[i % 3], DOCUMENTS[i / 3 % 3]);
        let variables = json!({ "after": after, "more": i.is_multiple_of(2) });
        let operator = &operator;
        async move {
            let live = operator.subscribe_at(address, document, variables).await;
            (i, live)
        }
    };
    let mut subscribers = join_all((0..300).map(subscribe)).await;
    let expected: Vec<String> = (1..=12).map(|i| format!("Renamed {i}")).collect();
    let changes = async {
        for (i, name) in expected.iter().enumerate() {
            authors[i % 2].rename_system(&first.id, name).await;
            stranger.create_system(&format!("Not theirs {i}")).await;
        }
    };
    let receive = join_all(subscribers.iter_mut().map(async |(i, live): &mut (usize, Subscription)| {
        for name in &expected {
            let change = live.next().await;
            assert_eq!(name_in(&change), name, "subscriber {i}");
            if *i / 3 % 3 == 2 {
                assert_eq!(change.get("kind").is_some(), *i % 2 == 0, "each receives what it selected");
            }
        }
    }));
    tokio::join!(changes, receive);
    operator.rename_system(&first.id, "The last").await;
    for (i, live) in &mut subscribers {
        assert_eq!(name_in(&live.next().await), "The last", "nothing came twice to subscriber {i}");
    }
}

/// The number of open subscriptions, from the metrics.
async fn subscribers(app: &App) -> usize {
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("keymark_subscribers "));
    line.expect("a gauge").parse().expect("a number")
}

async fn stalled_subscriber_is_disconnected_and_resumes_from_its_cursor(app: App) {
    let connection = ConnectionLimits {
        send_timeout: Duration::from_millis(200),
        close_timeout: Duration::from_secs(20),
        ..ConnectionLimits::default()
    };
    let address = app.listen_within(TransportLimits { connection, ..TransportLimits::default() }).await;
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Renamed 0").await;
    let after = operator.newest_cursor().await;
    // A few changes are more than a connection buffers.
    let entries: String = (0..250).map(|i| format!("a{i}: entry {{ id hash requestId actor {{ id }} }} ")).collect();
    let large = format!(
        "subscription ($after: String) {{ systemChanged(after: $after) {{
        cursor system {{ name }} {entries} }} }}"
    );
    let query = json!({ "query": large, "variables": { "after": after } });
    let bearer = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut stalled = Socket::open_narrow(address, bearer).await;
    stalled.acknowledged().await.expect("acknowledged");
    stalled.send(json!({ "type": "subscribe", "id": "1", "payload": query })).await;
    let mut other = operator.subscribe_at(address, DOCUMENTS[0], json!({ "after": after })).await;

    // While one subscriber does not read, another receives each change before the next is made.
    let mut made = 0;
    let mut change = async || {
        made += 1;
        let name = format!("Renamed {made}");
        operator.rename_system(&system.id, &name).await;
        assert_eq!(name_in(&other.next().await), name);
        made
    };
    // Enough to fill the buffers of a connection, and then until the server drops the stalled subscription.
    while change().await < 200 {}
    within(async {
        while subscribers(&app).await > 1 {
            change().await;
        }
    })
    .await;

    let (mut received, mut cursor) = (0, after);
    loop {
        match stalled.event().await {
            Event::Next(data) => {
                received += 1;
                assert_eq!(name_in(&data["systemChanged"]), format!("Renamed {received}"));
                cursor = data["systemChanged"]["cursor"].as_str().expect("a cursor").to_owned();
            }
            end => break assert_eq!(end, Event::Closed(1013)),
        }
    }
    assert!(received < 200, "the server buffers a bounded number of changes");
    let mut again = operator.subscribe_at(address, DOCUMENTS[0], json!({ "after": cursor })).await;
    operator.rename_system(&system.id, "The last").await;
    loop {
        let change = again.next().await;
        if name_in(&change) == "The last" {
            break;
        }
        received += 1;
        assert_eq!(name_in(&change), format!("Renamed {received}"));
    }
    assert!(received >= 200, "nothing was lost");
}
