//! GraphQL over WebSocket, by the subprotocol
//! [`graphql-transport-ws`](https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md).
//!
//! One task serves a socket: it reads messages, polls the operations, and writes what they give, one message at a
//! time. Nothing queues: while a client does not read, its operations are not polled, and a client that does not
//! read for too long is dropped.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_graphql::{Executor, Request, Response as GraphqlResponse, ServerError, parser::types::OperationType};
use axum::{
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::{self, BoxStream, SelectAll},
};
use http::request::Parts;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    following::{Following, Shown},
    gate::{Admission, Gate, Refusal, SocketAdmission},
    graphql::Transport,
    operation::{self, Operation, Outcome, Parameters, Selected, set_code},
    serve::InFlight,
};

/// Bounds on one socket.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// From the upgrade to `connection_init`; then once more for the gate's answer to it.
    pub init_timeout: Duration,
    /// A socket is pinged this often, and closed in the place of a ping when nothing came from it for twice as long.
    pub keep_alive: Duration,
    /// How long one message may take to be written.
    pub send_timeout: Duration,
    /// How long the peer may take to answer a close frame.
    pub close_timeout: Duration,
    /// Bytes of a message from the client.
    pub message_bytes: usize,
    /// Bytes of an operation's id.
    pub id_bytes: usize,
    /// Operations under way at once.
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

/// Of the WebSocket's read buffer: what a subscriber who waits costs, and what is filled with zeros before each read.
/// The default is 128 KiB; most messages of clients are shorter than this.
const READ_BUFFER_BYTES: usize = 1024;

/// What the WebSocket gathers before it writes; its write buffer itself grows with the messages.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// A close frame holds 125 bytes, of which its code takes two
/// ([RFC 6455, section 5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5)).
const MAX_REASON_BYTES: usize = 123;

pub(super) async fn upgrade<E: Executor, G: Gate>(transport: Arc<Transport<E, G>>, mut parts: Parts) -> Response {
    if let Err(refusal) = transport.gate.admit_upgrade(&parts).await {
        return refusal.into_response_as("application/json; charset=utf-8");
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return Refusal::new(rejection.status(), "BAD_USER_INPUT", rejection.body_text())
                .into_response_as("application/json; charset=utf-8");
        }
    };
    let parts = Box::new(parts);
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(transport.limits.connection.message_bytes)
        .max_frame_size(transport.limits.connection.message_bytes)
        .on_upgrade(move |socket| serve(transport, parts, socket))
}

/// What the future of a waiting socket holds is what a subscriber costs. So what is passed to it is made before it,
/// since an `async fn` keeps its arguments twice, and what is seldom awaited is in boxes.
fn serve<E: Executor, G: Gate>(
    transport: Arc<Transport<E, G>>,
    parts: Box<Parts>,
    mut socket: WebSocket,
) -> impl Future<Output = ()> + Send {
    // Held to the end: the server waits for its sockets when it shuts down.
    let in_flight = parts.extensions.get::<InFlight>().cloned();
    let close_timeout = transport.limits.connection.close_timeout;
    let mut connection = Connection {
        slots: Arc::new(Semaphore::new(transport.limits.connection.operations)),
        transport,
        in_flight: in_flight.clone(),
        upgrade: Some(parts),
        session: None,
        live: HashMap::new(),
        operations: SelectAll::new(),
    };
    async move {
        let ending = if socket.protocol().is_none() {
            Ending::close(4406, "Subprotocol not acceptable")
        } else {
            match connection.converse(&mut socket).await {
                Ok(never) => match never {},
                Err(ending) => ending,
            }
        };
        drop(connection);
        // A peer that does not take part in the closing handshake is not waited for.
        drop(timeout(close_timeout, Box::pin(hang_up(&mut socket, ending))).await);
        drop(in_flight);
    }
}

async fn hang_up(socket: &mut WebSocket, ending: Ending) {
    match ending {
        Ending::Gone => drop(socket.close().await),
        Ending::Close(frame) => {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        }
    }
}

/// Why a conversation is over.
enum Ending {
    /// The peer closed the socket, or it broke.
    Gone,
    /// We close it.
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

    fn refused(refusal: &Refusal) -> Self {
        let try_again = refusal.status.is_server_error() || refusal.status == http::StatusCode::TOO_MANY_REQUESTS;
        let code = if try_again { close_code::AGAIN } else { 4403 };
        Self::close(code, refusal.message.as_str())
    }

    /// Of what cannot be read as WebSocket messages.
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

/// Never made: a conversation ends by an [`Ending`] alone.
enum Never {}

struct Connection<E, G> {
    transport: Arc<Transport<E, G>>,
    in_flight: Option<InFlight>,
    /// The request that opened the socket, until `connection_init` is answered.
    upgrade: Option<Box<Parts>>,
    session: Option<Session>,
    /// The operations whose ids are taken.
    live: HashMap<Arc<str>, Live>,
    operations: SelectAll<BoxStream<'static, (Arc<Source>, Event)>>,
    /// One for each operation under way, those included that only the server still waits for.
    slots: Arc<Semaphore>,
}

struct Session {
    admission: Admission,
    ended: BoxFuture<'static, ()>,
}

/// An operation whose id is taken.
struct Live {
    kind: OperationType,
    abort: AbortHandle,
}

/// Where an event comes from.
struct Source {
    id: Arc<str>,
    selected: Selected,
}

/// What an operation gives.
enum Event {
    Result(Shown),
    Panicked,
    Done,
}

/// Waits for the end of a session; without one, for ever.
async fn ended(session: &mut Option<Session>) {
    match session {
        Some(session) => session.ended.as_mut().await,
        None => std::future::pending().await,
    }
}

impl<E: Executor, G: Gate> Connection<E, G> {
    async fn converse(&mut self, socket: &mut WebSocket) -> Result<Never, Ending> {
        let transport = Arc::clone(&self.transport);
        let limits = &transport.limits.connection;
        // One for all turns: each new one would take its place in a list that all sockets share.
        let mut shutdown = std::pin::pin!(transport.shutdown.cancelled());
        // First the deadline of `connection_init`, then the time of the next ping.
        let mut timer = std::pin::pin!(sleep(limits.init_timeout));
        let mut last_heard = Instant::now();
        loop {
            // In this order: nothing goes out any more once the session is over, and a client that sends without
            // end keeps nobody waiting but itself.
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Err(Ending::shutdown()),
                () = ended(&mut self.session) => return Box::pin(self.end_session(socket)).await,
                () = timer.as_mut() => {
                    if self.session.is_none() {
                        return Err(Ending::close(4408, "Connection initialisation timeout"));
                    }
                    if last_heard.elapsed() >= 2 * limits.keep_alive {
                        return Err(Ending::close(close_code::AWAY, "No sign of life"));
                    }
                    Box::pin(self.send(socket, Message::Ping(Bytes::new()))).await?;
                    timer.as_mut().reset(Instant::now() + limits.keep_alive);
                }
                message = socket.recv() => {
                    last_heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            let admitted = self.session.is_some();
                            Box::pin(self.receive(socket, text.as_str())).await?;
                            if self.session.is_some() != admitted {
                                timer.as_mut().reset(Instant::now() + limits.keep_alive);
                            }
                        }
                        Some(Ok(Message::Binary(_))) => {
                            return Err(Ending::close(4400, "Messages must be text"));
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return Err(Ending::Gone),
                        Some(Err(error)) => return Err(Ending::unreadable(&error)),
                    }
                }
                Some((source, event)) = self.operations.next(), if !self.operations.is_empty() => {
                    match event {
                        Event::Result(Shown::Payload(payload)) => {
                            Box::pin(self.send_payload(socket, &source.id, &payload)).await?;
                        }
                        event => Box::pin(self.forward(socket, &source, event)).await?,
                    }
                }
            }
        }
    }

    async fn receive(&mut self, socket: &mut WebSocket, text: &str) -> Result<(), Ending> {
        let message = ClientMessage::parse(text, self.transport.limits.connection.id_bytes)
            .map_err(|reason| Ending::close(4400, reason))?;
        match message {
            ClientMessage::ConnectionInit(payload) => self.init(socket, payload).await,
            ClientMessage::Ping(payload) => self.send_json(socket, &Plain { r#type: "pong", payload }).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { id, parameters } => self.subscribe(socket, id, parameters).await,
            ClientMessage::Complete { id } => {
                // Ids that are gone are ignored: the client may not have heard of it yet.
                if let Some(operation) = self.live.remove(id.as_str()) {
                    operation.abort.abort();
                }
                Ok(())
            }
        }
    }

    async fn init(&mut self, socket: &mut WebSocket, payload: Map<String, Json>) -> Result<(), Ending> {
        let Some(upgrade) = self.upgrade.take() else {
            return Err(Ending::close(4429, "Too many initialisation requests"));
        };
        let transport = Arc::clone(&self.transport);
        let admitted = tokio::select! {
            biased;
            () = transport.shutdown.cancelled() => return Err(Ending::shutdown()),
            admitted = timeout(
                transport.limits.connection.init_timeout,
                transport.gate.admit_socket(&upgrade, &payload),
            ) => admitted,
        };
        let SocketAdmission { admission, ended } = admitted
            .map_err(|_| Ending::close(close_code::AGAIN, "Try again later"))?
            .map_err(|refusal| Ending::refused(&refusal))?;
        self.session = Some(Session { admission, ended });
        self.send_json(socket, &Plain { r#type: "connection_ack", payload: None }).await
    }

    async fn subscribe(&mut self, socket: &mut WebSocket, id: String, parameters: Parameters) -> Result<(), Ending> {
        let Some(session) = &self.session else {
            return Err(Ending::close(4401, "Unauthorized"));
        };
        if self.live.contains_key(id.as_str()) {
            let reason = format!("Subscriber for {id} already exists");
            let reason = if reason.len() > MAX_REASON_BYTES { "Subscriber already exists".to_owned() } else { reason };
            return Err(Ending::close(4409, reason));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let mut error = ServerError::new(
                format!(
                    "Too many operations on one connection: at most {} at once.",
                    self.transport.limits.connection.operations
                ),
                None,
            );
            set_code(&mut error, "RATE_LIMITED");
            if let Some(extensions) = &mut error.extensions {
                extensions.set("retryAfterSeconds", 1);
            }
            return self.send_errors(socket, &id, &[error]).await;
        };
        let Operation { kind, request, selected } = match Operation::prepare(&self.transport.documents, parameters) {
            Ok(operation) => operation,
            Err(error) => return self.send_errors(socket, &id, &[error.into()]).await,
        };
        let admission = session.admission.clone();
        let request = admission.attach(request);
        let id: Arc<str> = id.into();
        let source = Arc::new(Source { id: Arc::clone(&id), selected });
        let (abort, registration) = AbortHandle::new_pair();
        let events = self.run(kind, request, admission, Arc::clone(&source), slot);
        let events = events.map(move |event| (Arc::clone(&source), event));
        self.operations.push(Abortable::new(events, registration).boxed());
        self.live.insert(id, Live { kind, abort });
        Ok(())
    }

    fn run(
        &self,
        kind: OperationType,
        request: Request,
        admission: Admission,
        source: Arc<Source>,
        slot: OwnedSemaphorePermit,
    ) -> BoxStream<'static, Event> {
        let executor = self.transport.executor.clone();
        let held = (slot, self.in_flight.clone());
        let result = |first, response| Event::Result(Shown::Response { first, response: Box::new(response) });
        if kind != OperationType::Subscription {
            let result = async move {
                match operation::execute(executor, kind, request, held).await {
                    Some(response) => result(true, response),
                    None => Event::Panicked,
                }
            };
            let done = async { Event::Done };
            return stream::once(result).chain(stream::once(done)).boxed();
        }
        let caught = |caught: std::thread::Result<Event>| {
            caught.unwrap_or_else(|_| {
                tracing::error!("a subscription panicked");
                Event::Panicked
            })
        };
        let done = async move {
            drop(held);
            Event::Done
        };
        if source.selected.id.is_none() {
            let results =
                executor.execute_stream(request, None).enumerate().map(move |(i, response)| result(i == 0, response));
            return AssertUnwindSafe(results).catch_unwind().map(caught).chain(stream::once(done)).boxed();
        }
        let following = (Following::new(&executor, request), Arc::clone(&self.transport), admission, source);
        let results = stream::unfold(following, async |(mut following, transport, admission, source)| {
            let shown = following.next(&transport, &admission, &source.selected).await?;
            Some((Event::Result(shown), (following, transport, admission, source)))
        });
        AssertUnwindSafe(results).catch_unwind().map(caught).chain(stream::once(done)).boxed()
    }

    /// Nothing goes out any more once the session is over, but the answers of changes that are under way: one of
    /// them may be what ended it.
    async fn end_session(&mut self, socket: &mut WebSocket) -> Result<Never, Ending> {
        self.live.retain(|_, operation| {
            let answers = operation.kind == OperationType::Mutation;
            if !answers {
                operation.abort.abort();
            }
            answers
        });
        let deadline = Instant::now() + self.transport.limits.connection.send_timeout;
        while !self.live.is_empty() {
            let Ok(Some((source, event))) = timeout_at(deadline, self.operations.next()).await else { break };
            if self.live.contains_key(&source.id) {
                self.forward(socket, &source, event).await?;
            }
        }
        Err(Ending::session_over())
    }

    async fn forward(&mut self, socket: &mut WebSocket, source: &Source, event: Event) -> Result<(), Ending> {
        let Source { id, selected } = source;
        let signed_in = self.session.as_ref().is_some_and(|session| session.admission.signed_in());
        match event {
            Event::Result(Shown::Payload(payload)) => self.send_payload(socket, id, &payload).await,
            Event::Result(Shown::Response { first, response }) => {
                match Outcome::of(*response, selected, &self.transport.types, signed_in) {
                    Outcome::Refused(errors) if first => {
                        self.forget(id);
                        self.send_errors(socket, id, &errors).await
                    }
                    Outcome::Refused(errors) => {
                        let response = GraphqlResponse::from_errors(errors);
                        self.send_next(socket, id, &response).await
                    }
                    Outcome::Executed(response) => self.send_next(socket, id, &response).await,
                }
            }
            Event::Panicked => {
                self.forget(id);
                let mut error = ServerError::new(Refusal::internal().message, None);
                set_code(&mut error, "INTERNAL");
                self.send_errors(socket, id, &[error]).await
            }
            Event::Done => {
                self.live.remove(id);
                let complete = Identified { id, r#type: "complete", payload: None::<()> };
                self.send_json(socket, &complete).await
            }
        }
    }

    /// Frees an id and drops what is left of its operation.
    fn forget(&mut self, id: &str) {
        if let Some(operation) = self.live.remove(id) {
            operation.abort.abort();
        }
    }

    async fn send_next(&mut self, socket: &mut WebSocket, id: &str, response: &GraphqlResponse) -> Result<(), Ending> {
        let next = Identified { id, r#type: "next", payload: Some(response) };
        self.send_json(socket, &next).await
    }

    /// Sends a result whose payload is JSON already.
    async fn send_payload(&mut self, socket: &mut WebSocket, id: &str, payload: &[u8]) -> Result<(), Ending> {
        let mut text = Vec::with_capacity(id.len() + payload.len() + 48);
        text.extend(br#"{"id":"#);
        serde_json::to_writer(&mut text, id).map_err(unserializable)?;
        text.extend(br#","type":"next","payload":"#);
        text.extend(payload);
        text.push(b'}');
        let text = Utf8Bytes::try_from(text).map_err(unserializable)?;
        self.send(socket, Message::Text(text)).await
    }

    async fn send_errors(&mut self, socket: &mut WebSocket, id: &str, errors: &[ServerError]) -> Result<(), Ending> {
        let error = Identified { id, r#type: "error", payload: Some(errors) };
        self.send_json(socket, &error).await
    }

    async fn send_json(&mut self, socket: &mut WebSocket, message: &impl Serialize) -> Result<(), Ending> {
        let text = serde_json::to_string(message).map_err(unserializable)?;
        self.send(socket, Message::Text(text.into())).await
    }

    /// Writes a message. The server may shut down meanwhile.
    async fn send(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), Ending> {
        let transport = &self.transport;
        tokio::select! {
            biased;
            sent = timeout(transport.limits.connection.send_timeout, socket.send(message)) => {
                match sent {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(Ending::Gone),
                    Err(_) => Err(Ending::close(close_code::AGAIN, "Too slow to read")),
                }
            }
            () = transport.shutdown.cancelled() => Err(Ending::shutdown()),
        }
    }
}

fn unserializable(error: impl std::fmt::Display) -> Ending {
    tracing::error!(%error, "a message cannot be serialized");
    Ending::close(4500, "Internal server error")
}

/// A message without an id.
#[derive(Serialize)]
struct Plain {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Map<String, Json>>,
}

/// A message about an operation.
#[derive(Serialize)]
struct Identified<'a, P> {
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
    /// Says what makes the message invalid.
    fn parse(text: &str, id_bytes: usize) -> Result<Self, String> {
        let Json::Object(mut members) =
            operation::parse_json(text.as_bytes()).map_err(|error| format!("Invalid JSON: {error}"))?
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
