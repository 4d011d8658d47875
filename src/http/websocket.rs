//! GraphQL over WebSocket, by the subprotocol
//! [`graphql-transport-ws`](https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md).
//!
//! One task serves a socket: it reads messages, polls the operations and writes their payloads, one message at a time.
//! Nothing is queued: while a client does not read, its operations are not polled, and a client that does not read for
//! too long is disconnected.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, ServerError};
use axum::extract::FromRequestParts;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures::future::{AbortHandle, Abortable};
use futures::stream::{self, BoxStream, SelectAll};
use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_VERSION;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::authenticator::{Authenticator, SocketSession};
use super::error::ErrorResponse;
use super::serve::InFlight;
use crate::graphql::engine::{Engine, Payload};
use crate::graphql::operation::{Parameters, error_with_code, parse_json};

/// Limits on one socket.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// From the upgrade to `connection_init`, and again for its authentication.
    pub init_timeout: Duration,
    /// Interval of pings. A socket on which nothing arrives for two intervals is closed instead of the next ping.
    pub keep_alive: Duration,
    /// Time to write one message.
    pub send_timeout: Duration,
    /// Time for the peer to reply to a close frame.
    pub close_timeout: Duration,
    /// Bytes of a message from the client.
    pub message_bytes: usize,
    /// Bytes of an operation's id.
    pub id_bytes: usize,
    /// Operations that run at the same time.
    pub operations: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            init_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(25),
            send_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            message_bytes: 256 * 1024,
            id_bytes: 1024,
            operations: 100,
        }
    }
}

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Bytes that the WebSocket reads at a time. Its buffer grows with the messages, and an idle subscriber keeps it. The default
/// is 128 KiB; a client sends little after it has subscribed.
const READ_BUFFER_BYTES: usize = 128;

/// Bytes that the WebSocket collects before it writes; the write buffer itself grows with the messages.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// A close frame holds 125 bytes, of which its code takes two
/// ([RFC 6455, section 5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5)).
const MAX_REASON_BYTES: usize = 123;

/// Shared by all sockets.
pub(super) struct SocketServer<E, A> {
    pub(super) engine: Arc<Engine<E>>,
    pub(super) authenticator: A,
    pub(super) limits: ConnectionLimits,
    pub(super) shutdown: CancellationToken,
}

pub(super) async fn upgrade<E: Executor, A: Authenticator>(
    server: Arc<SocketServer<E, A>>,
    mut parts: Parts,
) -> Response {
    if let Err(error) = server.authenticator.check_upgrade(&parts).await {
        return error.into_response_as("application/json; charset=utf-8");
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let mut response = ErrorResponse::new(rejection.status(), "BAD_USER_INPUT", rejection.body_text())
                .into_response_as("application/json; charset=utf-8");
            if let WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_) = rejection {
                // RFC 6455, section 4.4.
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            return response;
        }
    };
    let parts = Box::new(parts);
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(server.limits.message_bytes)
        .max_frame_size(server.limits.message_bytes)
        .on_upgrade(move |socket| serve(server, parts, socket))
}

/// The size of the future of an idle socket is the cost of a subscriber. So its arguments are built outside of it, since
/// an `async fn` keeps its arguments twice, and what is rarely awaited is boxed.
fn serve<E: Executor, A: Authenticator>(
    server: Arc<SocketServer<E, A>>,
    parts: Box<Parts>,
    mut socket: WebSocket,
) -> impl Future<Output = ()> + Send {
    // Held to the end: the server waits for its sockets when it shuts down.
    let in_flight = parts.extensions.get::<InFlight>().cloned();
    let close_timeout = server.limits.close_timeout;
    let mut connection = Connection {
        slots: Arc::new(Semaphore::new(server.limits.operations)),
        server,
        in_flight: in_flight.clone(),
        upgrade: Some(parts),
        session: None,
        running: Vec::with_capacity(1),
        operations: SelectAll::new(),
    };
    async move {
        let ending = if socket.protocol().is_none() {
            Ending::close(4406, "Subprotocol not acceptable")
        } else {
            match connection.run(&mut socket).await {
                Ok(never) => match never {},
                Err(ending) => ending,
            }
        };
        drop(connection);
        // The peer may not take part in the closing handshake.
        drop(timeout(close_timeout, Box::pin(close(&mut socket, ending))).await);
        drop(in_flight);
    }
}

async fn close(socket: &mut WebSocket, ending: Ending) {
    match ending {
        Ending::Gone => drop(socket.close().await),
        Ending::Close(frame) => {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        }
    }
}

/// Why a connection ends.
enum Ending {
    /// The peer closed the socket, or it broke.
    Gone,
    /// The server closes the socket.
    Close(CloseFrame),
}

impl Ending {
    fn close(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        Self::Close(CloseFrame { code, reason: reason.into() })
    }

    fn shutdown() -> Self {
        Self::close(close_code::AWAY, "Going away")
    }

    fn session_over() -> Self {
        Self::close(4403, "Forbidden")
    }

    fn refused(error: &ErrorResponse) -> Self {
        let is_retryable = error.status.is_server_error() || error.status == http::StatusCode::TOO_MANY_REQUESTS;
        let code = if is_retryable { close_code::AGAIN } else { 4403 };
        Self::close(code, error.message.as_str())
    }

    /// After a message that cannot be read.
    fn unreadable(error: &axum::Error) -> Self {
        let error = error.to_string();
        if error.starts_with("Space limit exceeded") {
            Self::close(close_code::SIZE, "Message too large")
        } else if error.starts_with("UTF-8 encoding error") {
            Self::close(close_code::INVALID, "Text is not UTF-8")
        } else if error.starts_with("WebSocket protocol error") {
            Self::close(close_code::PROTOCOL, "Protocol error")
        } else {
            Self::Gone
        }
    }
}

struct Connection<E, A> {
    server: Arc<SocketServer<E, A>>,
    in_flight: Option<InFlight>,
    /// The request that opened the socket, until `connection_init`.
    upgrade: Option<Box<Parts>>,
    session: Option<SocketSession>,
    /// A list, since most sockets have one.
    running: Vec<RunningOperation>,
    operations: Operations,
    /// One permit for each operation, including those that the client has cancelled and that still run.
    slots: Arc<Semaphore>,
}

/// An operation whose id is in use.
struct RunningOperation {
    id: Arc<str>,
    kind: OperationType,
    abort: AbortHandle,
}

enum Event {
    Payload(Payload),
    Complete,
}

type Operations = SelectAll<BoxStream<'static, (Arc<str>, Event)>>;

/// The next event of an operation, once the session is known to last.
fn next_event<'a>(
    operations: &'a mut Operations,
    is_checked: Option<Arc<AtomicBool>>,
) -> impl Future<Output = Option<(Arc<str>, Event)>> + 'a {
    poll_fn(move |cx| match &is_checked {
        // The check, which is polled before, wakes this task too.
        Some(is_checked) if is_checked.load(Ordering::Relaxed) => Poll::Pending,
        _ => operations.poll_next_unpin(cx),
    })
}

/// Waits for the end of the session; without one, forever.
async fn session_end(session: &mut Option<SocketSession>) {
    match session {
        Some(session) => session.ended.as_mut().await,
        None => std::future::pending().await,
    }
}

impl<E: Executor, A: Authenticator> Connection<E, A> {
    async fn run(&mut self, socket: &mut WebSocket) -> Result<Infallible, Ending> {
        let server = Arc::clone(&self.server);
        let limits = &server.limits;
        // Created once: each new one would be inserted into a list that all sockets share.
        let mut shutdown = std::pin::pin!(server.shutdown.cancelled());
        // First the deadline of `connection_init`, then the time of the next ping.
        let mut timer = std::pin::pin!(sleep(limits.init_timeout));
        let mut last_received = Instant::now();
        loop {
            let is_checked = self.session.as_ref().map(|session| Arc::clone(&session.is_checked));
            let has_operations = !self.operations.is_empty();
            // In this order: nothing is sent after the session has ended, and a client that sends without pause delays
            // only its own operations.
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Err(Ending::shutdown()),
                () = session_end(&mut self.session) => return Box::pin(self.end_session(socket)).await,
                () = timer.as_mut() => {
                    if self.session.is_none() {
                        return Err(Ending::close(4408, "Connection initialisation timeout"));
                    }
                    if last_received.elapsed() >= 2 * limits.keep_alive {
                        return Err(Ending::close(close_code::AWAY, "No sign of life"));
                    }
                    Box::pin(self.send(socket, Message::Ping(Bytes::new()))).await?;
                    timer.as_mut().reset(Instant::now() + limits.keep_alive);
                }
                message = socket.recv() => {
                    last_received = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            let had_session = self.session.is_some();
                            Box::pin(self.receive(socket, text.as_str())).await?;
                            if self.session.is_some() != had_session {
                                timer.as_mut().reset(Instant::now() + limits.keep_alive);
                            }
                        }
                        Some(Ok(Message::Binary(_))) => {
                            return Err(Ending::close(4400, "Messages must be text"));
                        }
                        // The pong waits in a buffer without a limit, which a client that reads nothing would fill.
                        Some(Ok(Message::Ping(_))) => Box::pin(self.write(socket.flush())).await?,
                        Some(Ok(Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return Err(Ending::Gone),
                        Some(Err(error)) => return Err(Ending::unreadable(&error)),
                    }
                }
                Some((id, event)) = next_event(&mut self.operations, is_checked), if has_operations => {
                    Box::pin(self.forward(socket, &id, event)).await?;
                }
            }
        }
    }

    async fn receive(&mut self, socket: &mut WebSocket, text: &str) -> Result<(), Ending> {
        let message =
            ClientMessage::parse(text, self.server.limits.id_bytes).map_err(|reason| Ending::close(4400, reason))?;
        match message {
            ClientMessage::ConnectionInit(payload) => self.init(socket, payload).await,
            ClientMessage::Ping(payload) => {
                self.send_json(socket, &ConnectionMessage { r#type: "pong", payload }).await
            }
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { id, parameters } => self.subscribe(socket, id, parameters).await,
            ClientMessage::Complete { id } => {
                // An unknown id is ignored: the operation may have ended before the client received its `complete`.
                self.abort(&id);
                Ok(())
            }
        }
    }

    async fn init(&mut self, socket: &mut WebSocket, payload: Map<String, Json>) -> Result<(), Ending> {
        let Some(upgrade) = self.upgrade.take() else {
            return Err(Ending::close(4429, "Too many initialisation requests"));
        };
        let server = Arc::clone(&self.server);
        let authenticated = tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return Err(Ending::shutdown()),
            authenticated = timeout(
                server.limits.init_timeout,
                server.authenticator.authenticate_socket(&upgrade, &payload),
            ) => authenticated,
        };
        let session = authenticated
            .map_err(|_| Ending::close(close_code::AGAIN, "Try again later"))?
            .map_err(|error| Ending::refused(&error))?;
        self.session = Some(session);
        self.send_json(socket, &ConnectionMessage { r#type: "connection_ack", payload: None }).await
    }

    async fn subscribe(&mut self, socket: &mut WebSocket, id: String, parameters: Parameters) -> Result<(), Ending> {
        let Some(session) = &self.session else {
            return Err(Ending::close(4401, "Unauthorized"));
        };
        if self.is_running(&id) {
            let reason = format!("Subscriber for {id} already exists");
            let reason = if reason.len() > MAX_REASON_BYTES { "Subscriber already exists".to_owned() } else { reason };
            return Err(Ending::close(4409, reason));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let limit = self.server.limits.operations;
            let message = format!("Too many operations on one connection: at most {limit} can run at the same time.");
            let mut error = error_with_code(message, "RATE_LIMITED");
            if let Some(extensions) = &mut error.extensions {
                extensions.set("retryAfterSeconds", 1);
            }
            return self.send_errors(socket, &id, &[error]).await;
        };
        let operation = match self.server.engine.prepare(parameters) {
            Ok(operation) => operation,
            Err(error) => return self.send_errors(socket, &id, &[error.into()]).await,
        };
        let (id, kind): (Arc<str>, _) = (id.into(), operation.kind);
        let (abort, registration) = AbortHandle::new_pair();
        let held = (slot, self.in_flight.clone());
        let payloads = self.server.engine.stream(operation, session.context.clone(), held);
        let events = payloads.map(Event::Payload).chain(stream::once(async { Event::Complete }));
        let event_id = Arc::clone(&id);
        let events = events.map(move |event| (Arc::clone(&event_id), event));
        self.operations.push(Abortable::new(events, registration).boxed());
        self.running.push(RunningOperation { id, kind, abort });
        Ok(())
    }

    /// After the end of the session nothing is sent, except the results of mutations that are running: one of them may
    /// have ended it.
    async fn end_session(&mut self, socket: &mut WebSocket) -> Result<Infallible, Ending> {
        self.running.retain(|operation| {
            let is_mutation = operation.kind == OperationType::Mutation;
            if !is_mutation {
                operation.abort.abort();
            }
            is_mutation
        });
        let deadline = Instant::now() + self.server.limits.send_timeout;
        while !self.running.is_empty() {
            let Ok(Some((id, event))) = timeout_at(deadline, self.operations.next()).await else { break };
            if self.is_running(&id) {
                self.forward(socket, &id, event).await?;
            }
        }
        Err(Ending::session_over())
    }

    async fn forward(&mut self, socket: &mut WebSocket, id: &str, event: Event) -> Result<(), Ending> {
        match event {
            Event::Payload(Payload::Result(result)) => self.send_next(socket, id, &result).await,
            Event::Payload(Payload::Errors(errors)) => {
                self.abort(id);
                self.send_errors(socket, id, &errors).await
            }
            Event::Complete => {
                self.running.retain(|operation| *operation.id != *id);
                let complete = OperationMessage { id, r#type: "complete", payload: None::<()> };
                self.send_json(socket, &complete).await
            }
        }
    }

    /// Frees an id and drops the rest of its operation.
    fn abort(&mut self, id: &str) {
        for operation in self.running.extract_if(.., |operation| *operation.id == *id) {
            operation.abort.abort();
        }
    }

    fn is_running(&self, id: &str) -> bool {
        self.running.iter().any(|operation| *operation.id == *id)
    }

    /// Sends a result, which is JSON already.
    async fn send_next(&mut self, socket: &mut WebSocket, id: &str, result: &[u8]) -> Result<(), Ending> {
        let mut text = Vec::with_capacity(id.len() + result.len() + 48);
        text.extend(br#"{"id":"#);
        serde_json::to_writer(&mut text, id).map_err(unserializable)?;
        text.extend(br#","type":"next","payload":"#);
        text.extend(result);
        text.push(b'}');
        let text = Utf8Bytes::try_from(text).map_err(unserializable)?;
        self.send(socket, Message::Text(text)).await
    }

    async fn send_errors(&mut self, socket: &mut WebSocket, id: &str, errors: &[ServerError]) -> Result<(), Ending> {
        let error = OperationMessage { id, r#type: "error", payload: Some(errors) };
        self.send_json(socket, &error).await
    }

    async fn send_json(&mut self, socket: &mut WebSocket, message: &impl Serialize) -> Result<(), Ending> {
        let text = serde_json::to_string(message).map_err(unserializable)?;
        self.send(socket, Message::Text(text.into())).await
    }

    async fn send(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), Ending> {
        self.write(socket.send(message)).await
    }

    /// Waits for a write, unless the server shuts down first.
    async fn write(&mut self, write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Ending> {
        let server = &self.server;
        tokio::select! {
            biased;
            written = timeout(server.limits.send_timeout, write) => {
                match written {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(Ending::Gone),
                    Err(_) => Err(Ending::close(close_code::AGAIN, "Too slow to read")),
                }
            }
            () = server.shutdown.cancelled() => Err(Ending::shutdown()),
        }
    }
}

fn unserializable(error: impl std::fmt::Display) -> Ending {
    tracing::error!(%error, "message not serializable");
    Ending::close(4500, "Internal server error")
}

/// A message without an id.
#[derive(Serialize)]
struct ConnectionMessage {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Map<String, Json>>,
}

/// A message about an operation.
#[derive(Serialize)]
struct OperationMessage<'a, P> {
    id: &'a str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<P>,
}

enum ClientMessage {
    ConnectionInit(Map<String, Json>),
    Ping(Option<Map<String, Json>>),
    Pong,
    Subscribe { id: String, parameters: Parameters },
    Complete { id: String },
}

impl ClientMessage {
    /// # Errors
    ///
    /// The reason why the message is invalid.
    fn parse(text: &str, id_bytes: usize) -> Result<Self, String> {
        let Json::Object(mut members) =
            parse_json(text.as_bytes()).map_err(|error| format!("Invalid JSON: {error}"))?
        else {
            return Err("The message must be an object".to_owned());
        };
        let Some(Json::String(kind)) = members.remove("type") else {
            return Err("`type` must be a string".to_owned());
        };
        match kind.as_str() {
            "connection_init" => payload(&mut members).map(Option::unwrap_or_default).map(Self::ConnectionInit),
            "ping" => payload(&mut members).map(Self::Ping),
            "pong" => payload(&mut members).map(|_| Self::Pong),
            "subscribe" => {
                let id = id(&mut members, id_bytes)?;
                let payload = payload(&mut members)?.ok_or("`payload` is missing")?;
                let parameters = Parameters::from_json(payload)?;
                Ok(Self::Subscribe { id, parameters })
            }
            "complete" => id(&mut members, id_bytes).map(|id| Self::Complete { id }),
            _ => Err(format!("Unexpected message type `{kind}`")),
        }
    }
}

fn payload(members: &mut Map<String, Json>) -> Result<Option<Map<String, Json>>, String> {
    match members.remove("payload") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(payload)) => Ok(Some(payload)),
        Some(_) => Err("`payload` must be an object".to_owned()),
    }
}

fn id(members: &mut Map<String, Json>, max_bytes: usize) -> Result<String, String> {
    match members.remove("id") {
        Some(Json::String(id)) if id.is_empty() => Err("`id` must not be empty".to_owned()),
        Some(Json::String(id)) if id.len() > max_bytes => {
            Err(format!("`id` must not have more than {max_bytes} bytes"))
        }
        Some(Json::String(id)) => Ok(id),
        _ => Err("`id` must be a string".to_owned()),
    }
}
