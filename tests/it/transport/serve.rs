//! Serving a listener: slow clients, and shutdown.

use std::{io::Write, sync::Arc, time::Duration};

use keymark::{
    domain::time::Timestamp,
    http::{
        connections::ConnectionCaps,
        graphql::TransportLimits,
        serve::ServeLimits,
        tls::{Tls, TlsFile, TlsFiles},
    },
    metrics::TlsMetrics,
    service::draining::Draining,
};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::toy::{QuickRouter, Server};
use crate::support::{
    certificates::{Authority, TlsClient},
    within,
};

/// What reads the small requests of a server.
#[derive(Clone, Copy)]
enum Reader {
    Hyper,
    Own,
}

/// Runs each case with each [`Reader`].
macro_rules! with_both_readers {
    [$($case:ident),+ $(,)?] => {$(
        mod $case {
            use super::Reader;

            #[tokio::test]
            async fn hyper() {
                super::$case(Reader::Hyper).await;
            }

            #[tokio::test]
            async fn own() {
                super::$case(Reader::Own).await;
            }
        }
    )+};
}

with_both_readers![
    slow_head_is_cut_off_and_an_idle_connection_is_not,
    silent_connection_is_closed_after_the_time_for_a_head,
    connection_beyond_the_limit_is_refused_until_another_is_closed,
    idle_connection_is_closed_after_its_timeout,
    client_that_reads_no_responses_is_cut_off,
    too_large_body_is_refused_before_it_is_read,
    shutdown_waits_for_requests_and_closes_idle_connections,
    shutdown_waits_for_a_mutation_whose_client_disconnected,
    request_ends_when_its_client_disconnects,
    next_request_that_arrives_early_is_answered_in_turn,
    shutdown_ends_in_spite_of_unfinished_requests,
    connection_that_waits_to_be_accepted_is_served_at_shutdown,
    response_closes_its_connection_while_draining_and_new_ones_are_served,
    response_that_is_awaited_when_draining_begins_closes_its_connection,
    handshake_that_takes_too_long_is_cut_off,
    handshake_that_has_not_begun_does_not_delay_the_shutdown,
    silent_and_idle_connections_over_tls_are_closed,
    handshakes_count_as_connections_of_their_address,
    client_that_reads_no_responses_over_tls_is_cut_off,
];

async fn start_on(reader: Reader, limits: ServeLimits, tls: Option<Arc<Tls>>, draining: Draining) -> Server {
    let of_router = TransportLimits::default();
    match reader {
        Reader::Hyper => Server::start_on(of_router, limits, tls, draining, |router| router).await,
        Reader::Own => Server::start_on(of_router, limits, tls, draining, QuickRouter).await,
    }
}

async fn start_with(reader: Reader, limits: ServeLimits) -> Server {
    start_on(reader, limits, None, Draining::default()).await
}

/// A server over TLS, and the CA of its certificate.
async fn start_over_tls(reader: Reader, limits: ServeLimits) -> (Server, Authority) {
    let authority = Authority::new();
    let issued = authority.issue("server");
    let [certificate, key] = [("--tls-cert", issued.certificate), ("--tls-key", issued.key)]
        .map(|(setting, path)| TlsFile { setting, path });
    let files = TlsFiles { certificate, key, client_ca: None };
    let tls = Tls::load(files, TlsMetrics::default(), Timestamp::from_millis(0)).expect("loaded");
    (start_on(reader, limits, Some(tls), Draining::default()).await, authority)
}

impl Server {
    async fn dial(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.expect("connected")
    }

    /// Connects and sends without yielding to the server, which shares the test's thread: no time-out can come first.
    fn dial_with(&self, text: &str) -> TcpStream {
        let mut stream = std::net::TcpStream::connect(self.address).expect("connected");
        stream.write_all(text.as_bytes()).expect("sent");
        stream.set_nonblocking(true).expect("set");
        TcpStream::from_std(stream).expect("a stream")
    }
}

fn post(query: &str) -> String {
    post_json(&json!({ "query": query }))
}

fn post_json(body: &Json) -> String {
    let body = body.to_string();
    format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request of 4096 bytes, as many as are read at once without hyper, so that each read ends with a request.
fn request_with_a_large_response() -> String {
    let echoes: String = (0..20).map(|n| format!("a{n}: echo(text: $t) ")).collect();
    let request = post_json(&json!({
        "query": format!("query ($t: String!) {{ {echoes} }}"), "variables": { "t": "x".repeat(3_000) },
    }));
    let padding = "x".repeat(4096 - request.len() - "a: \r\n".len());
    request.replacen("host: x\r\n", &format!("host: x\r\na: {padding}\r\n"), 1)
}

async fn send(stream: &mut TcpStream, text: &str) {
    within(stream.write_all(text.as_bytes())).await.expect("sent");
}

/// Reads until the text contains `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut buffer = [0; 4096];
        let read = within(stream.read(&mut buffer)).await.expect("readable");
        assert_ne!(read, 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.expect("readable");
    text
}

async fn slow_head_is_cut_off_and_an_idle_connection_is_not(reader: Reader) {
    let server =
        start_with(reader, ServeLimits { head_timeout: Duration::from_millis(50), ..ServeLimits::default() }).await;
    let mut idle = server.dial_with(&post("{ hello }"));
    read_until(&mut idle, "world").await;

    let mut slow = server.dial_with("POST /graphql HTTP/1.1\r\nhost:");
    read_to_end(&mut slow).await;

    // By now its time for a head would have passed as well.
    send(&mut idle, &post("{ hello }")).await;
    read_until(&mut idle, "world").await;
}

async fn silent_connection_is_closed_after_the_time_for_a_head(reader: Reader) {
    let server =
        start_with(reader, ServeLimits { head_timeout: Duration::from_millis(50), ..ServeLimits::default() }).await;
    assert_eq!(read_to_end(&mut server.dial().await).await, "");
}

async fn connection_beyond_the_limit_is_refused_until_another_is_closed(reader: Reader) {
    let connections = ConnectionCaps { total: 1, ..ConnectionCaps::default() };
    let server = start_with(reader, ServeLimits { connections, ..ServeLimits::default() }).await;
    let mut open = server.dial().await;
    send(&mut open, &post("{ hello }")).await;
    read_until(&mut open, "world").await;
    let refused = read_to_end(&mut server.dial().await).await;
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");

    // The server closes its side after the last response, and has then freed the place.
    send(&mut open, &post("{ hello }").replace("host: x", "host: x\r\nconnection: close")).await;
    read_to_end(&mut open).await;
    drop(open);
    within(async {
        loop {
            let mut next = server.dial().await;
            let sent = next.write_all(post("{ hello }").as_bytes()).await;
            let mut answer = [0; 12];
            if sent.is_ok() && next.read_exact(&mut answer).await.is_ok() && answer == *b"HTTP/1.1 200" {
                break;
            }
        }
    })
    .await;
}

async fn idle_connection_is_closed_after_its_timeout(reader: Reader) {
    let server =
        start_with(reader, ServeLimits { idle_timeout: Duration::from_millis(250), ..ServeLimits::default() }).await;
    let mut idle = server.dial().await;
    read_to_end(&mut idle).await;
    let mut used = server.dial_with(&post("{ hello }"));
    assert!(read_to_end(&mut used).await.ends_with("{\"data\":{\"hello\":\"world\"}}"));
}

async fn client_that_reads_no_responses_is_cut_off(reader: Reader) {
    let server =
        start_with(reader, ServeLimits { write_timeout: Duration::from_millis(250), ..ServeLimits::default() }).await;
    let mut stream = server.dial().await;
    let request = request_with_a_large_response();
    // Ends when the server has closed the connection. Until then it reads requests as long as it can respond.
    let flood = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    within(flood).await;
}

async fn too_large_body_is_refused_before_it_is_read(reader: Reader) {
    let server = start_with(reader, ServeLimits::default()).await;
    let mut stream = server.dial().await;
    let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 4000000\r\n\r\n";
    send(&mut stream, head).await;
    let (mut reading, mut writing) = stream.split();
    let write = async {
        // The server may close before all of it is sent.
        drop(writing.write_all(&[b' '; 4_000_000]).await);
    };
    let mut answer = vec![0; 17];
    let read = reading.read_exact(&mut answer);
    let (_, read) = within(async { tokio::join!(write, read) }).await;
    read.expect("readable");
    assert_eq!(answer, b"HTTP/1.1 413 Payl");
}

async fn shutdown_waits_for_requests_and_closes_idle_connections(reader: Reader) {
    let mut server = start_with(reader, ServeLimits::default()).await;
    let mut idle = server.dial().await;
    send(&mut idle, &post("{ hello }")).await;
    read_until(&mut idle, "world").await;
    let mut busy = server.dial().await;
    send(&mut busy, &post("{ waits }")).await;
    within(server.world.started.notified()).await;

    server.shutdown.cancel();
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(!server.serving.is_finished());
    server.world.go_on.notify_waiters();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.ends_with("{\"data\":{\"waits\":true}}"), "{answer}");
    drop((idle, busy));
    within(&mut server.serving).await.expect("served");
    assert!(TcpStream::connect(server.address).await.is_err());
}

async fn shutdown_waits_for_a_mutation_whose_client_disconnected(reader: Reader) {
    let mut server = start_with(reader, ServeLimits::default()).await;
    let mut gone = server.dial().await;
    send(&mut gone, &post("mutation { setLater(value: 7) }")).await;
    within(server.world.started.notified()).await;
    drop(gone);
    server.shutdown.cancel();
    tokio::task::yield_now().await;
    assert!(!server.serving.is_finished());
    server.world.go_on.notify_waiters();
    within(&mut server.serving).await.expect("served");
    assert_eq!(server.world.value.load(std::sync::atomic::Ordering::SeqCst), 7);
}

async fn request_ends_when_its_client_disconnects(reader: Reader) {
    let drain = Duration::from_secs(3600);
    let mut server = start_with(reader, ServeLimits { drain, ..ServeLimits::default() }).await;
    let mut gone = server.dial().await;
    send(&mut gone, &post("{ waits }")).await;
    within(server.world.started.notified()).await;
    drop(gone);
    server.shutdown.cancel();
    within(&mut server.serving).await.expect("served");
}

async fn next_request_that_arrives_early_is_answered_in_turn(reader: Reader) {
    let server = start_with(reader, ServeLimits::default()).await;
    let mut stream = server.dial().await;
    send(&mut stream, &post("{ waits }")).await;
    within(server.world.started.notified()).await;
    let next = post("{ hello }");
    let (first, rest) = next.split_at(next.len() / 2);
    send(&mut stream, first).await;
    tokio::task::yield_now().await;
    server.world.go_on.notify_waiters();
    read_until(&mut stream, "{\"data\":{\"waits\":true}}").await;
    send(&mut stream, rest).await;
    read_until(&mut stream, "world").await;
}

async fn shutdown_ends_in_spite_of_unfinished_requests(reader: Reader) {
    let mut server =
        start_with(reader, ServeLimits { drain: Duration::from_millis(100), ..ServeLimits::default() }).await;
    let mut half_a_head = server.dial().await;
    send(&mut half_a_head, "POST /graphql").await;
    let mut half_a_body = server.dial().await;
    let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 100\r\n\r\n{";
    send(&mut half_a_body, head).await;
    let mut never_done = server.dial().await;
    send(&mut never_done, &post("{ waits }")).await;
    within(server.world.started.notified()).await;
    server.shutdown.cancel();
    within(&mut server.serving).await.expect("served");
}

async fn connection_that_waits_to_be_accepted_is_served_at_shutdown(reader: Reader) {
    let mut server = start_with(reader, ServeLimits::default()).await;
    // The server shares the thread, so it accepts neither before it sees the shutdown.
    let mut with_request = server.dial_with(&post("{ hello }"));
    let mut without = server.dial_with("");
    server.shutdown.cancel();
    let answer = read_to_end(&mut with_request).await;
    assert!(answer.contains("world") && answer.contains("connection: close"), "{answer}");
    send(&mut without, &post("{ hello }")).await;
    let answer = read_to_end(&mut without).await;
    assert!(answer.contains("world") && answer.contains("connection: close"), "{answer}");
    drop((with_request, without));
    within(&mut server.serving).await.expect("served");
}

async fn response_closes_its_connection_while_draining_and_new_ones_are_served(reader: Reader) {
    let draining = Draining::default();
    let limits = ServeLimits::default();
    let server = start_on(reader, limits, None, draining.clone()).await;
    let mut kept = server.dial().await;
    send(&mut kept, &post("{ hello }")).await;
    assert!(!read_until(&mut kept, "world").await.contains("connection: close"));
    draining.begin();
    for stream in [&mut kept, &mut server.dial().await] {
        send(stream, &post("{ hello }")).await;
        let answer = read_to_end(stream).await;
        assert!(answer.contains("world") && answer.contains("connection: close"), "{answer}");
    }
}

async fn response_that_is_awaited_when_draining_begins_closes_its_connection(reader: Reader) {
    let draining = Draining::default();
    let server = start_on(reader, ServeLimits::default(), None, draining.clone()).await;
    let mut stream = server.dial().await;
    send(&mut stream, &post("{ hello }")).await;
    read_until(&mut stream, "world").await;
    send(&mut stream, &post("{ waits }")).await;
    within(server.world.started.notified()).await;
    draining.begin();
    server.world.go_on.notify_waiters();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.contains("connection: close") && answer.ends_with("{\"data\":{\"waits\":true}}"), "{answer}");
}

async fn handshake_that_takes_too_long_is_cut_off(reader: Reader) {
    let limits = ServeLimits { head_timeout: Duration::from_millis(50), ..ServeLimits::default() };
    let (server, _authority) = start_over_tls(reader, limits).await;
    // Nothing, and the beginning of a record.
    for text in ["", "\x16\x03\x01\x02\x00\x01"] {
        assert_eq!(read_to_end(&mut server.dial_with(text)).await, "");
    }
}

async fn handshake_that_has_not_begun_does_not_delay_the_shutdown(reader: Reader) {
    let long = Duration::from_secs(300);
    let (mut server, _authority) =
        start_over_tls(reader, ServeLimits { head_timeout: long, drain: long, ..ServeLimits::default() }).await;
    let _silent = server.dial_with("");
    server.shutdown.cancel();
    within(&mut server.serving).await.expect("served");
}

async fn silent_and_idle_connections_over_tls_are_closed(reader: Reader) {
    let head_timeout = Duration::from_millis(500);
    let limits = ServeLimits { head_timeout, idle_timeout: Duration::from_millis(250), ..ServeLimits::default() };
    let (server, authority) = start_over_tls(reader, limits).await;
    let connector = authority.connector(None);
    let mut silent = TlsClient::connect(&connector, server.address).await.expect("connected");
    assert!(silent.receive().await.is_err());
    let mut used = TlsClient::connect(&connector, server.address).await.expect("connected");
    used.send(&post("{ hello }")).await.expect("sent");
    assert!(used.receive().await.expect("an answer").body.contains("world"));
    let end = used.receive().await.err().expect("closed");
    assert!(end.get_ref().is_none(), "not closed by TLS: {end}");
}

async fn handshakes_count_as_connections_of_their_address(reader: Reader) {
    let connections = ConnectionCaps { per_address: 1, ..ConnectionCaps::default() };
    let (server, authority) = start_over_tls(reader, ServeLimits { connections, ..ServeLimits::default() }).await;
    let pending = server.dial_with("");
    assert!(TlsClient::connect(&authority.connector(None), server.address).await.is_err());
    drop(pending);
}

async fn client_that_reads_no_responses_over_tls_is_cut_off(reader: Reader) {
    let limits = ServeLimits { write_timeout: Duration::from_millis(250), ..ServeLimits::default() };
    let (server, authority) = start_over_tls(reader, limits).await;
    let mut client = TlsClient::connect(&authority.connector(None), server.address).await.expect("connected");
    let request = request_with_a_large_response();
    within(async { while client.send(&request).await.is_ok() {} }).await;
}
