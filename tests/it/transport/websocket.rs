//! GraphQL over WebSocket, over real sockets.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::body::Body;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use insta::assert_json_snapshot;
use keymark::http::{graphql::TransportLimits, serve::ServeLimits, websocket::ConnectionLimits};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::toy::{self, Server, World};
use crate::support::within;

async fn start() -> Server {
    start_with(ConnectionLimits::default()).await
}

async fn start_with(connection: ConnectionLimits) -> Server {
    let limits = TransportLimits { connection, ..TransportLimits::default() };
    Server::start(limits, ServeLimits::default()).await
}

struct Socket<S = MaybeTlsStream<TcpStream>>(WebSocketStream<S>);

/// Opens a socket in memory, for tests of time-outs: without the kernel, a paused clock advances only when both ends
/// wait for it.
async fn open_in_memory(world: &Arc<World>, connection: ConnectionLimits) -> Socket<DuplexStream> {
    let limits = TransportLimits { connection, ..TransportLimits::default() };
    let router = toy::router(world, limits, CancellationToken::new());
    let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let (client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades());
    let mut request = "ws://localhost/graphql".into_client_request().expect("a request");
    let subprotocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    let (socket, _) = within(client_async(request, client)).await.expect("upgraded");
    Socket(socket)
}

impl Server {
    async fn connect(
        &self,
        subprotocol: Option<&'static str>,
        origin: Option<&'static str>,
    ) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}/graphql", self.address).into_client_request()?;
        let headers = request.headers_mut();
        if let Some(subprotocol) = subprotocol {
            let value = HeaderValue::from_static(subprotocol);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let (socket, _) = within(connect_async(request)).await?;
        Ok(Socket(socket))
    }

    /// Opens a socket, without `connection_init`.
    async fn open(&self) -> Socket {
        self.connect(Some("graphql-transport-ws"), None).await.expect("upgraded")
    }

    /// Opens a socket of a signed-in caller.
    async fn acknowledged(&self) -> Socket {
        let mut socket = self.open().await;
        socket.sign_in().await;
        socket
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn sign_in(&mut self) {
        self.send(json!({ "type": "connection_init", "payload": { "authorization": "Bearer good" } })).await;
        assert_eq!(self.receive().await, json!({ "type": "connection_ack" }));
    }

    async fn send(&mut self, message: Json) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    async fn send_raw(&mut self, message: Message) {
        within(self.0.send(message)).await.expect("sent");
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    async fn complete(&mut self, id: &str) {
        self.send(json!({ "type": "complete", "id": id })).await;
    }

    async fn receive(&mut self) -> Json {
        loop {
            match within(self.0.next()).await.expect("open").expect("readable") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) => {}
                other => panic!("expected a message, not {other:?}"),
            }
        }
    }

    /// Waits for the close frame, past the messages before it.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("expected a close frame, not {other:?}"),
            }
        }
    }

    /// Asserts that the server sends nothing more for earlier messages before it answers a ping.
    async fn assert_quiet(&mut self) {
        self.send(json!({ "type": "ping", "payload": { "mark": "quiet" } })).await;
        let pong = json!({ "type": "pong", "payload": { "mark": "quiet" } });
        assert_eq!(self.receive().await, pong);
    }
}

#[tokio::test]
async fn only_graphql_transport_ws_is_accepted() {
    let server = start().await;
    let both = server.connect(Some("graphql-ws, graphql-transport-ws"), None).await;
    within(both.expect("upgraded").0.close(None)).await.expect("closed");
    let mut none = server.connect(None, None).await.expect("upgraded");
    assert_eq!(none.closed().await, (4406, "Subprotocol not acceptable".to_owned()));
    // The client refuses a handshake that selects none of its subprotocols.
    let dead = server.connect(Some("graphql-ws"), None).await;
    assert!(matches!(dead, Err(tungstenite::Error::Protocol(_))));
}

#[tokio::test]
async fn foreign_origin_is_refused_before_the_upgrade() {
    let server = start().await;
    let foreign = server.connect(Some("graphql-transport-ws"), Some("https://evil.example")).await;
    let Err(tungstenite::Error::Http(response)) = foreign else {
        panic!("upgraded");
    };
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let body: Json = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).expect("JSON");
    assert_json_snapshot!(body, @r#"
    {
      "errors": [
        {
          "extensions": {
            "code": "FORBIDDEN"
          },
          "message": "Foreign origin."
        }
      ]
    }
    "#);
    let own = server.connect(Some("graphql-transport-ws"), Some("https://own.example")).await;
    assert!(own.is_ok());
}

#[tokio::test]
async fn connection_init_requires_valid_credentials() {
    let server = start().await;
    server.acknowledged().await;
    for payload in [json!({}), Json::Null, json!({ "authorization": "Bearer bad" })] {
        let mut socket = server.open().await;
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.closed().await, (4403, "Sign in first.".to_owned()));
    }
    let mut socket = server.open().await;
    let payload = json!({ "authorization": "Bearer later" });
    socket.send(json!({ "type": "connection_init", "payload": payload })).await;
    assert_eq!(socket.closed().await, (1013, "Not now.".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn missing_connection_init_closes_with_4408() {
    let mut socket = open_in_memory(&Arc::default(), ConnectionLimits::default()).await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.receive().await, json!({ "type": "pong" }));
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (4408, "Connection initialisation timeout"));
}

#[tokio::test]
async fn second_connection_init_closes_with_4429() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.send(json!({ "type": "connection_init" })).await;
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (4429, "Too many initialisation requests"));
}

#[tokio::test]
async fn subscribing_before_the_acknowledgement_closes_with_4401() {
    let server = start().await;
    let mut socket = server.open().await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.closed().await, (4401, "Unauthorized".to_owned()));
}

#[tokio::test]
async fn invalid_messages_close_with_4400_and_a_reason() {
    let server = start().await;
    let mut reasons = Vec::new();
    for message in [
        "",
        "nonsense",
        "[]",
        r#"{ "id": "1" }"#,
        r#"{ "type": 7 }"#,
        r#"{ "type": "next", "id": "1", "payload": {} }"#,
        r#"{ "type": "ping", "payload": [] }"#,
        r#"{ "type": "connection_init", "payload": "x" }"#,
        r#"{ "type": "complete" }"#,
        r#"{ "type": "subscribe", "payload": { "query": "{ hello }" } }"#,
        r#"{ "type": "subscribe", "id": 7, "payload": { "query": "{ hello }" } }"#,
        r#"{ "type": "subscribe", "id": "", "payload": { "query": "{ hello }" } }"#,
        r#"{ "type": "subscribe", "id": "1" }"#,
        r#"{ "type": "subscribe", "id": "1", "payload": "{ hello }" }"#,
        r#"{ "type": "subscribe", "id": "1", "payload": {} }"#,
        r#"{ "type": "subscribe", "id": "1", "payload": { "query": 7 } }"#,
        r#"{ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "variables": [] } }"#,
        r#"{ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "operationName": 1 } }"#,
        &"[".repeat(200),
        &"[".repeat(100_000),
        &format!(r#"{{ "type": "{}é" }}"#, "x".repeat(97)),
    ] {
        let mut socket = server.acknowledged().await;
        socket.send_raw(Message::text(message)).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 4400, "{reason}");
        reasons.push(reason);
    }
    let mut socket = server.acknowledged().await;
    socket.send_raw(Message::binary(b"{}".as_slice())).await;
    assert_eq!(socket.closed().await.0, 4400);
    assert_json_snapshot!(reasons, @r#"
    [
      "Invalid JSON: EOF while parsing a value at line 1 column 0",
      "Invalid JSON: expected ident at line 1 column 2",
      "The message must be an object",
      "`type` must be a string",
      "`type` must be a string",
      "Unexpected message type `next`",
      "`payload` must be an object",
      "`payload` must be an object",
      "`id` must be a string",
      "`id` must be a string",
      "`id` must be a string",
      "`id` must not be empty",
      "`payload` is missing",
      "`payload` must be an object",
      "`query` is missing.",
      "`query` must be a string.",
      "`variables` must be an object.",
      "`operationName` must be a string.",
      "Invalid JSON: recursion limit exceeded at line 1 column 128",
      "Invalid JSON: more than 10000 values",
      "Unexpected message type `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    ]
    "#);
}

#[tokio::test]
async fn message_beyond_the_limit_closes_with_1009() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    let message = json!({ "type": "ping", "payload": { "x": "x".repeat(1024 * 1024) } });
    // The server may close before all of it is sent.
    drop(within(socket.0.send(Message::text(message.to_string()))).await);
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn queries_and_mutations_return_one_result() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    let next = |payload: Json| json!({ "id": "1", "type": "next", "payload": payload });
    let complete = json!({ "id": "1", "type": "complete" });

    socket.subscribe("1", "{ caller }").await;
    assert_eq!(socket.receive().await, next(json!({ "data": { "caller": "alice" } })));
    assert_eq!(socket.receive().await, complete);

    socket.subscribe("1", "mutation { set(value: 7) }").await;
    assert_eq!(socket.receive().await, next(json!({ "data": { "set": 7 } })));
    assert_eq!(socket.receive().await, complete);
    assert_eq!(server.world.value.load(Ordering::SeqCst), 7);

    socket
        .send(json!({ "type": "subscribe", "id": "1", "payload": {
            "query": "query a { hello } query b($t: String!) { echo(text: $t) }",
            "operationName": "b", "variables": { "t": "x" }, "extensions": null,
        }}))
        .await;
    assert_eq!(socket.receive().await, next(json!({ "data": { "echo": "x" } })));
    assert_eq!(socket.receive().await, complete);
}

#[tokio::test]
async fn subscription_sends_its_events_and_completes() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "subscription { count(to: 2) }").await;
    for number in 1..=2 {
        let event = json!({ "id": "1", "type": "next", "payload": { "data": { "count": number } } });
        assert_eq!(socket.receive().await, event);
    }
    assert_eq!(socket.receive().await, json!({ "id": "1", "type": "complete" }));
    socket.assert_quiet().await;
}

#[tokio::test]
async fn operations_of_one_socket_run_concurrently() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("slow", "{ waits }").await;
    within(server.world.started.notified()).await;
    socket.subscribe("quick", "{ hello }").await;
    assert_eq!(socket.receive().await["id"], "quick");
    assert_eq!(socket.receive().await["type"], "complete");
    server.world.go_on.notify_waiters();
    assert_eq!(socket.receive().await["id"], "slow");
}

#[tokio::test]
async fn request_errors_are_an_error_message_that_frees_the_id() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    for query in [
        "{",
        "{ nothing }",
        "subscription { count }",
        "query a { hello } query b { hello }",
        "query ($t: String!) { echo(text: $t) }",
        "subscription { a: count(to: 1) b: count(to: 1) }",
        &format!("{{ {} }}", "hello ".repeat(21)),
    ] {
        socket.subscribe("1", query).await;
        let message = socket.receive().await;
        assert_eq!(message["type"], "error", "{message}");
        assert_eq!(message["id"], "1");
        assert!(message["payload"][0]["message"].is_string());
        assert!(message["payload"][0]["extensions"]["code"].is_string(), "{message}");
    }
    socket.assert_quiet().await;
    assert_eq!(server.world.value.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn field_errors_are_results() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "subscription { losesPermission }").await;
    assert_eq!(socket.receive().await["payload"], json!({ "data": { "losesPermission": 1 } }));
    let message = socket.receive().await;
    assert_eq!(message["type"], "next");
    assert_eq!(message["payload"]["data"], Json::Null);
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "FORBIDDEN");
    assert_eq!(socket.receive().await["type"], "complete");
}

#[tokio::test]
async fn panics_are_internal_errors_and_the_socket_stays_open() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    for query in ["{ panics }", "mutation { panics }", "subscription { panics }"] {
        socket.subscribe("1", query).await;
        let mut message = socket.receive().await;
        if message["type"] == "next" {
            message = socket.receive().await;
        }
        assert_eq!(message["type"], "error", "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], "INTERNAL");
    }
    socket.assert_quiet().await;
}

#[tokio::test]
async fn id_in_use_closes_with_4409() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("mine", "subscription { forever }").await;
    socket.subscribe("mine", "{ hello }").await;
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (4409, "Subscriber for mine already exists"));
    // Nothing is left running.
    within(server.world.dropped.notified()).await;
}

#[tokio::test]
async fn completed_operation_is_dropped_and_its_id_is_free() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "subscription { forever }").await;
    assert_eq!(socket.receive().await["type"], "next");
    socket.complete("1").await;
    within(server.world.dropped.notified()).await;
    // No complete comes back, and ids that are gone are ignored.
    socket.complete("1").await;
    socket.complete("never was").await;
    socket.assert_quiet().await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.receive().await["payload"], json!({ "data": { "hello": "world" } }));
}

#[tokio::test]
async fn result_of_a_completed_query_is_not_sent() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "{ waits }").await;
    within(server.world.started.notified()).await;
    socket.complete("1").await;
    socket.assert_quiet().await;
    server.world.go_on.notify_waiters();
    socket.assert_quiet().await;
}

#[tokio::test]
async fn mutation_continues_after_its_socket_closes() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "mutation { setLater(value: 7) }").await;
    within(server.world.started.notified()).await;
    drop(socket);
    server.world.go_on.notify_waiters();
    within(server.world.dropped.notified()).await;
    assert_eq!(server.world.value.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn operations_beyond_the_limit_are_refused_individually() {
    let server = start_with(ConnectionLimits { operations: 2, ..ConnectionLimits::default() }).await;
    let mut socket = server.acknowledged().await;
    for id in ["1", "2"] {
        socket.subscribe(id, "subscription { forever }").await;
        assert_eq!(socket.receive().await["type"], "next");
    }
    socket.subscribe("3", "{ hello }").await;
    assert_json_snapshot!(socket.receive().await, @r#"
    {
      "id": "3",
      "payload": [
        {
          "extensions": {
            "code": "RATE_LIMITED",
            "retryAfterSeconds": 1
          },
          "message": "Too many operations on one connection: at most 2 can run at the same time."
        }
      ],
      "type": "error"
    }
    "#);
    socket.complete("1").await;
    within(server.world.dropped.notified()).await;
    socket.subscribe("3", "{ hello }").await;
    assert_eq!(socket.receive().await["type"], "next");
}

#[tokio::test]
async fn refusal_of_another_version_names_the_one_that_is_spoken() {
    let server = start().await;
    let mut stream = within(TcpStream::connect(server.address)).await.expect("connected");
    let request = "GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 8\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nsec-websocket-version: 13\r\n"), "{answer}");
}

#[tokio::test]
async fn end_of_the_session_closes_with_4403() {
    let server = start().await;
    let mut socket = server.acknowledged().await;
    socket.subscribe("1", "subscription { forever }").await;
    assert_eq!(socket.receive().await["type"], "next");
    server.world.session_over.cancel();
    assert_eq!(socket.closed().await, (4403, "Forbidden".to_owned()));
    within(server.world.dropped.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn silent_peer_is_pinged_and_then_closed() {
    let limits = ConnectionLimits { keep_alive: Duration::from_secs(5), ..ConnectionLimits::default() };
    // A client that reads answers pings by itself, and is kept past any number of intervals.
    let mut lively = open_in_memory(&Arc::default(), limits.clone()).await;
    lively.sign_in().await;
    for _ in 0..4 {
        let message = within(lively.0.next()).await.expect("open").expect("readable");
        assert!(matches!(message, Message::Ping(_)), "{message:?}");
    }
    // A client that never answers is not. Its frames are read from the bare stream, so that nothing answers for it.
    let mut mute = open_in_memory(&Arc::default(), limits).await;
    mute.sign_in().await;
    let mut frames = Vec::new();
    within(mute.0.get_mut().read_to_end(&mut frames)).await.expect("closed");
    assert!(frames.starts_with(&[0x89, 0x00]), "a ping first: {frames:x?}");
    let close = [&[0x88, 0x11], 1001_u16.to_be_bytes().as_slice(), b"No sign of life"].concat();
    assert!(frames.ends_with(&close), "a close frame last: {frames:x?}");
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_is_disconnected() {
    let world = Arc::default();
    let mut socket = open_in_memory(&world, ConnectionLimits::default()).await;
    socket.sign_in().await;
    socket.subscribe("gone", "subscription { forever }").await;
    assert_eq!(socket.receive().await["type"], "next");
    socket.subscribe("flood", "subscription { flood }").await;
    within(world.dropped.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn client_that_reads_no_pongs_is_disconnected() {
    let mut socket = open_in_memory(&Arc::default(), ConnectionLimits::default()).await;
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0], [0; 125].as_slice()].concat();
    let mut written = 0;
    // The pipe has 64 KiB in each direction.
    while written < 1024 * 1024 && socket.0.get_mut().write_all(&ping).await.is_ok() {
        written += ping.len();
    }
    assert!(written < 256 * 1024, "{written} bytes were read");
}

#[tokio::test]
async fn shutdown_closes_with_1001() {
    let mut server = start().await;
    let mut socket = server.acknowledged().await;
    let mut unready = server.open().await;
    socket.subscribe("1", "subscription { forever }").await;
    assert_eq!(socket.receive().await["type"], "next");
    server.shutdown.cancel();
    assert_eq!(socket.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(unready.closed().await.0, 1001);
    drop((socket, unready));
    within(&mut server.serving).await.expect("served");
}
