//! Serving a listener: slow clients, and shutdown.

use std::{io::Write, time::Duration};

use keymark::http::{connections::ConnectionCaps, graphql::TransportLimits, serve::ServeLimits};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::toy::Server;
use crate::support::within;

async fn start_with(limits: ServeLimits) -> Server {
    Server::start(TransportLimits::default(), limits).await
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

#[tokio::test]
async fn slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let server = start_with(ServeLimits { head_timeout: Duration::from_millis(50), ..ServeLimits::default() }).await;
    let mut idle = server.dial_with(&post("{ hello }"));
    read_until(&mut idle, "world").await;

    let mut slow = server.dial_with("POST /graphql HTTP/1.1\r\nhost:");
    read_to_end(&mut slow).await;

    // By now its time for a head would have passed as well.
    send(&mut idle, &post("{ hello }")).await;
    read_until(&mut idle, "world").await;
}

#[tokio::test]
async fn silent_connection_is_closed_after_the_time_for_a_head() {
    let server = start_with(ServeLimits { head_timeout: Duration::from_millis(50), ..ServeLimits::default() }).await;
    assert_eq!(read_to_end(&mut server.dial().await).await, "");
}

#[tokio::test]
async fn connection_beyond_the_limit_is_refused_until_another_is_closed() {
    let connections = ConnectionCaps { total: 1, ..ConnectionCaps::default() };
    let server = start_with(ServeLimits { connections, ..ServeLimits::default() }).await;
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

#[tokio::test]
async fn idle_connection_is_closed_after_its_timeout() {
    let server = start_with(ServeLimits { idle_timeout: Duration::from_millis(250), ..ServeLimits::default() }).await;
    let mut idle = server.dial().await;
    read_to_end(&mut idle).await;
    let mut used = server.dial_with(&post("{ hello }"));
    assert!(read_to_end(&mut used).await.ends_with("{\"data\":{\"hello\":\"world\"}}"));
}

#[tokio::test]
async fn client_that_reads_no_responses_is_cut_off() {
    let server = start_with(ServeLimits { write_timeout: Duration::from_millis(250), ..ServeLimits::default() }).await;
    let mut stream = server.dial().await;
    let echoes: String = (0..20).map(|n| format!("a{n}: echo(text: $t) ")).collect();
    let request = post_json(&json!({
        "query": format!("query ($t: String!) {{ {echoes} }}"), "variables": { "t": "x".repeat(60_000) },
    }));
    // Ends when the server has closed the connection. Until then it reads requests as long as it can respond.
    let flood = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    within(flood).await;
}

#[tokio::test]
async fn too_large_body_is_refused_before_it_is_read() {
    let server = start_with(ServeLimits::default()).await;
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

#[tokio::test]
async fn shutdown_waits_for_requests_and_closes_idle_connections() {
    let mut server = start_with(ServeLimits::default()).await;
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

#[tokio::test]
async fn shutdown_waits_for_a_mutation_whose_client_disconnected() {
    let mut server = start_with(ServeLimits::default()).await;
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

#[tokio::test]
async fn shutdown_ends_in_spite_of_unfinished_requests() {
    let mut server = start_with(ServeLimits { drain: Duration::from_millis(100), ..ServeLimits::default() }).await;
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
