//! One operator, tenant or address cannot exhaust an instance.

use std::net::{IpAddr, SocketAddr};

use futures::StreamExt;
use futures::future::join_all;
use http::Method;
use keymark::service::concurrency::ConcurrencyLimits;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

use crate::support::actors::{ALL, App, Operator, Setup};
use crate::support::faulty::Switch;
use crate::support::process::{Server, directory};
use crate::support::sockets::Socket;
use crate::support::{on_both_stores, within};

on_both_stores![
    filtered_pages_and_counts_cost_what_they_read,
    heavy_reads_of_an_operator_wait_in_turn,
    heavy_reads_beyond_the_queue_are_refused,
    read_of_a_client_that_disconnects_gives_its_turn_to_the_next,
    subscriptions_read_the_log_in_turn,
    sockets_of_an_operator_are_limited,
    exports_of_a_tenant_are_limited,
];

const COUNT: &str = "{ auditLog(filter: { outcome: REFUSED }, first: 1) { totalCount } }";

/// Another instance over the same store, and its switch.
async fn limited(app: &App, limits: ConcurrencyLimits) -> (App, Switch) {
    let (switch, setup) = (Switch::default(), Setup::default());
    let settings = keymark::service::Settings { concurrency: limits, ..setup.settings };
    let setup = Setup { settings, switch: Some(switch.clone()), ..Setup::default() };
    let limited = app.instance_with(2, setup).await;
    limited.wait_for_cache().await;
    (limited, switch)
}

/// The number of requests refused for this limit.
async fn refusals(app: &App, limit: &str) -> u64 {
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    let name = format!("keymark_requests_limited_total{{limit=\"{limit}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("a counter").parse().expect("a number")
}

async fn filtered_pages_and_counts_cost_what_they_read(app: App) {
    let operator = app.operator(&ALL).await;
    let code = async |document: &str, variables| operator.query(document, variables).await.code().map(str::to_owned);
    let aliases = |count: usize, field: &str| (0..count).map(|i| format!("a{i}: {field} ")).collect::<String>();
    let page = "nodes { id number occurredAt action actor { id name } } pageInfo { endCursor }";
    let costly = format!("auditLog(filter: {{ outcome: REFUSED }}, first: 200) {{ totalCount {page} }}");
    let search = "systems(search: \"a\", first: 200) { totalCount nodes { id name } }";
    let too_complex = Some("QUERY_TOO_COMPLEX".to_owned());
    let filtered = "systems(filter: { keyState: ACTIVE }, first: 1) { totalCount nodes { id } }";
    let by_use = "systems(orderBy: { field: LAST_USED_AT, direction: ASC }, first: 1) { nodes { id } }";
    for field in [costly.as_str(), search, filtered, by_use] {
        assert_eq!(code(&format!("{{ {} }}", aliases(20, field)), json!({})).await, too_complex, "{field}");
        assert_eq!(code(&format!("{{ {field} }}"), json!({})).await, None, "{field}");
    }
    let counts = aliases(20, "totalCount");
    let counted = format!("{{ auditLog(filter: {{ outcome: REFUSED }}) {{ {counts} }} }}");
    assert_eq!(code(&counted, json!({})).await, too_complex);
    let spread =
        format!("{{ systems(search: \"a\") {{ ...counts }} }} fragment counts on SystemConnection {{ {counts} }}");
    assert_eq!(code(&spread, json!({})).await, too_complex);

    // The argument decides, wherever its value is.
    let twenty = aliases(20, "auditLog(filter: $f, first: 1) { totalCount }");
    let (given, default) = ("query ($f: AuditFilter)", "query ($f: AuditFilter = { outcome: DONE })");
    let refused = json!({ "f": { "outcome": "REFUSED" } });
    assert_eq!(code(&format!("{given} {{ {twenty} }}"), refused).await, too_complex);
    assert_eq!(code(&format!("{default} {{ {twenty} }}"), json!({})).await, too_complex);
    for everything in [json!({}), json!({ "f": null }), json!({ "f": {} }), json!({ "f": { "outcome": null } })] {
        assert_eq!(code(&format!("{given} {{ {twenty} }}"), everything.clone()).await, None, "{everything}");
    }
    let unsearched = aliases(20, "systems(search: \"\", first: 1) { totalCount }");
    assert_eq!(code(&format!("{{ {unsearched} }}"), json!({})).await, None);
    for (variable, argument) in [("$o: SystemOrder!", "$o"), ("$f: SystemOrderField!", "{ field: $f, direction: ASC }")]
    {
        let twenty = aliases(20, &format!("systems(orderBy: {argument}, first: 1) {{ totalCount }}"));
        for (field, expected) in [("KEY_EXPIRES_AT", too_complex.clone()), ("UPDATED_AT", None)] {
            let value = if argument == "$o" {
                json!({ "o": { "field": field, "direction": "ASC" } })
            } else {
                json!({ "f": field })
            };
            assert_eq!(
                code(&format!("query ({variable}) {{ {twenty} }}"), value).await,
                expected,
                "{argument} {field}"
            );
        }
    }
}

async fn heavy_reads_of_an_operator_wait_in_turn(app: App) {
    let (app, switch) = limited(&app, ConcurrencyLimits::default()).await;
    let operator = app.operator(&["view"]).await;
    let stranger = app.operator_of("elsewhere", &["view"]).await;
    let held = switch.hold("count_audit", 2);
    let reads = join_all((0..5).map(|_| operator.query(COUNT, json!({}))));
    let others = async {
        switch.wait_for_calls("count_audit", 2).await;
        // Neither light reads nor those of another tenant wait.
        for document in ["{ auditLog(first: 1) { totalCount } }", "{ systems { totalCount nodes { id } } }"] {
            assert_eq!(operator.query(document, json!({})).await.code(), None);
        }
        stranger.query(COUNT, json!({})).await.data("auditLog.totalCount");
        // Two of the operator's, the light one and the stranger's.
        assert_eq!(switch.calls(&["count_audit"]), 4, "the operator has two reads at a time");
        drop(held);
    };
    let (answers, ()) = within(async { tokio::join!(reads, others) }).await;
    for answer in answers {
        assert_eq!(answer.data("auditLog.totalCount"), 0);
    }
}

async fn heavy_reads_beyond_the_queue_are_refused(app: App) {
    let limits = ConcurrencyLimits { operator_reads: 1, waiting_reads: 0, ..ConcurrencyLimits::default() };
    let (app, switch) = limited(&app, limits).await;
    let operator = app.operator(&["view"]).await;
    let held = switch.hold("count_audit", 1);
    let first = operator.query(COUNT, json!({}));
    let others = async {
        switch.wait_for_calls("count_audit", 1).await;
        for document in [COUNT, "{ systems(search: \"a\") { nodes { id } } }"] {
            let refused = operator.query(document, json!({})).await;
            assert_eq!(refused.code(), Some("RATE_LIMITED"));
            assert_eq!(refused.error()["extensions"]["retryAfterSeconds"], 5);
        }
        assert_eq!(refusals(&app, "reads").await, 2);
        drop(held);
    };
    let (first, ()) = within(async { tokio::join!(first, others) }).await;
    assert_eq!(first.data("auditLog.totalCount"), 0);
    assert_eq!(operator.query(COUNT, json!({})).await.code(), None);
}

async fn read_of_a_client_that_disconnects_gives_its_turn_to_the_next(app: App) {
    let limits = ConcurrencyLimits { operator_reads: 1, ..ConcurrencyLimits::default() };
    let (app, switch) = limited(&app, limits).await;
    let operator = app.operator(&["view"]).await;
    let _held = switch.hold("count_audit", 2);

    let mut client = within(TcpStream::connect(app.listen().await)).await.expect("connected");
    let body = json!({ "query": COUNT }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        operator.token,
        body.len()
    );
    within(client.write_all(format!("{head}{body}").as_bytes())).await.expect("sent");
    switch.wait_for_calls("count_audit", 1).await;
    drop(client);

    let payload = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(app.listen().await, &[], payload).await;
    socket.acknowledged().await.expect("acknowledged");
    socket.send(json!({ "type": "subscribe", "id": "1", "payload": { "query": COUNT } })).await;
    switch.wait_for_calls("count_audit", 2).await;
    socket.send(json!({ "type": "complete", "id": "1" })).await;

    assert_eq!(operator.query(COUNT, json!({})).await.data("auditLog.totalCount"), 0);
}

async fn subscriptions_read_the_log_in_turn(app: App) {
    let (app, switch) = limited(&app, ConcurrencyLimits::default()).await;
    let operator = app.operator(&ALL).await;
    let after = operator.newest_cursor().await;
    operator.create_system("Billing").await;
    let held = switch.hold("list_audit_after", 2);
    let document = "subscription ($after: String) { systemChanged(after: $after) { system { name } } }";
    let address = app.listen().await;
    let mut live = join_all((0..5).map(|_| operator.subscribe_at(address, document, json!({ "after": after })))).await;
    switch.wait_for_calls("list_audit_after", 2).await;
    assert_eq!(operator.query("{ viewer { id } }", json!({})).await.code(), None);
    assert_eq!(switch.calls(&["list_audit_after"]), 2);
    drop(held);
    for subscription in &mut live {
        assert_eq!(subscription.next().await["system"]["name"], "Billing");
    }
}

async fn open(operator: &Operator<'_>, address: SocketAddr) -> (Socket, Result<(), u16>) {
    let payload = json!({ "authorization": format!("Bearer {}", operator.token) });
    let mut socket = Socket::open(address, &[], payload).await;
    let acknowledged = socket.acknowledged().await;
    (socket, acknowledged)
}

async fn sockets_of_an_operator_are_limited(app: App) {
    let (operator, colleague) = (app.operator(&["view"]).await, app.operator(&["view"]).await);
    let address = app.listen().await;
    let mut sockets = join_all((0..200).map(|_| open(&operator, address))).await;
    assert!(sockets.iter().all(|(_, acknowledged)| acknowledged.is_ok()));
    assert_eq!(open(&operator, address).await.1, Err(1013));
    assert_eq!(refusals(&app, "sockets").await, 1);
    assert_eq!(open(&colleague, address).await.1, Ok(()));

    let (socket, _) = sockets.pop().expect("a socket");
    socket.close().await;
    assert_eq!(open(&operator, address).await.1, Ok(()));
}

async fn exports_of_a_tenant_are_limited(app: App) {
    let (operator, colleague) = (app.operator(&["view"]).await, app.operator(&["view"]).await);
    let stranger = app.operator_of("elsewhere", &["view"]).await;
    let begin = async |operator: &Operator<'_>| {
        let export = operator.begin(Method::GET, "/audit/export?format=jsonl", &[], String::new()).await;
        let (status, headers) = (export.status().as_u16(), export.headers().clone());
        (status, headers, export.into_body().into_data_stream())
    };
    let (first, second) = (begin(&operator).await, begin(&colleague).await);
    assert_eq!((first.0, second.0), (200, 200));
    let refused = operator.get("/audit/export?format=jsonl").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, Some("RATE_LIMITED")));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refusals(&app, "exports").await, 1);
    assert_eq!(begin(&stranger).await.0, 200);
    assert!(app.cli(&["audit", "export", "--tenant", "acme"]).await.status.success(), "the command line has no limit");

    drop(first);
    assert_eq!(begin(&operator).await.0, 200);
    // An export that was read to its end is over, too.
    within(second.2.for_each(async |part| assert!(part.is_ok()))).await;
    assert_eq!(begin(&operator).await.0, 200);
}

/// Connects from a loopback address.
async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::from(from), 0)).expect("an address");
    within(socket.connect(to)).await.expect("connected")
}

/// Whether a new connection from this address is served.
async fn is_served(from: [u8; 4], to: SocketAddr) -> bool {
    let mut stream = connect(from, to).await;
    // The server may have closed the connection.
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut status = [0; 12];
    let read = within(stream.read_exact(&mut status)).await;
    assert!(read.is_err() || &status == b"HTTP/1.1 200" || &status == b"HTTP/1.1 503", "{status:?}");
    read.is_ok() && status.ends_with(b"200")
}

async fn metric(server: &Server, name: &str) -> usize {
    let metrics = server.client.get(format!("{}/metrics", server.verification)).send();
    let metrics = within(metrics).await.expect("an answer").text().await.expect("text");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn silent_connections_leave_room_for_other_addresses_and_for_verifications() {
    let directory = directory();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 512 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_keymark")]);
    command.env_clear().env("PATH", "/bin:/usr/bin").env("KEYMARK_DATA_DIR", directory.path()).kill_on_drop(true);
    let mut server = Server::run(command).await.unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
    let token = server.sign_in("admin", server.announced("Password").expect("printed")).await;
    let created = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    let created = server.graphql(Some(&token), created, json!({})).await;
    let generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
    let generated =
        server.graphql(Some(&token), generate, json!({ "id": created["data"]["createSystem"]["system"]["id"] })).await;
    let api_key = generated["data"]["generateKey"]["apiKey"].as_str().expect("a key");
    // From here on, each request opens a connection.
    server.client = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let (open, by_address, in_total) = (
        r#"keymark_connections{listener="public"}"#,
        r#"keymark_connections_refused_total{listener="public",limit="address"}"#,
        r#"keymark_connections_refused_total{listener="public",limit="listener"}"#,
    );

    let mut silent = Vec::new();
    while metric(&server, by_address).await == 0 {
        assert!(silent.len() < 512, "one address took every connection");
        silent.push(connect([127, 0, 0, 2], server.address()).await);
    }
    assert!(!is_served([127, 0, 0, 2], server.address()).await);
    assert!(is_served([127, 0, 0, 3], server.address()).await);

    let mut address = 4;
    while metric(&server, in_total).await == 0 {
        assert!(silent.len() < 512, "the listener accepted every connection");
        for _ in 0..20 {
            silent.push(connect([127, 0, 0, address], server.address()).await);
        }
        address += 1;
    }
    assert!(!is_served([127, 0, 0, 200], server.address()).await);
    for _ in 0..10 {
        assert_eq!(server.verdict(api_key).await, "VALID");
    }

    drop(silent);
    within(async { while metric(&server, open).await > 10 {} }).await;
    assert!(is_served([127, 0, 0, 2], server.address()).await);
    let (status, log) = server.stop().await;
    assert!(status.success() && !log.contains("connection not accepted"), "{log}");
}
