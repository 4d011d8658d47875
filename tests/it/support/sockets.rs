//! WebSockets and subscriptions of operators, over real connections.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, StatusCode};
use serde_json::{Value as Json, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use super::actors::Operator;
use super::within;

/// A WebSocket to `/graphql`.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A message of the server.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The data of a result.
    Next(Json),
    /// The code of the first error of a result, or of the error that ended an operation.
    Error(String),
    Complete,
    /// The server closed the socket with this code.
    Closed(u16),
}

impl Event {
    /// The data of a result. Panics on any other event.
    pub fn data(self) -> Json {
        match self {
            Self::Next(data) => data,
            other => panic!("expected a result, not {other:?}"),
        }
    }
}

impl Socket {
    fn request(address: SocketAddr) -> Request<()> {
        let mut request = format!("ws://{address}/graphql").into_client_request().expect("an address");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("graphql-transport-ws"));
        request
    }

    /// Opens a socket; returns the status of the response if the upgrade is refused.
    pub async fn upgrade(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, StatusCode> {
        let mut request = Self::request(address);
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        match within(connect_async(request)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a socket and sends `connection_init` with this payload.
    pub async fn open(address: SocketAddr, headers: &[(&str, &str)], payload: Json) -> Self {
        let mut socket = Self::upgrade(address, headers).await.expect("upgraded");
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        socket
    }

    /// Like [`open`](Self::open), on a connection with a small receive buffer.
    pub async fn open_narrow(address: SocketAddr, payload: Json) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = MaybeTlsStream::Plain(within(socket.connect(address)).await.expect("a connection"));
        let (socket, _) = within(client_async(Self::request(address), stream)).await.expect("upgraded");
        let mut socket = Self(socket);
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        socket
    }

    /// Closes the socket, and waits until the server has.
    pub async fn close(mut self) {
        within(self.0.close(None)).await.expect("closing");
        while let Some(Ok(_)) = within(self.0.next()).await {}
    }

    pub async fn send(&mut self, message: Json) {
        within(self.0.send(Message::text(message.to_string()))).await.expect("sent");
    }

    /// Receives the next message, or the code with which the server closed the socket.
    pub async fn receive(&mut self) -> Result<Json, u16> {
        let message = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                    other => panic!("expected a message or a close frame, not {other:?}"),
                }
            }
        };
        within(message).await
    }

    /// Waits until the server closes the socket; returns the code and the reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a close frame, not {other:?}"),
            }
        }
    }

    /// Waits for `connection_ack`; returns the code if the server closes the socket instead.
    pub async fn acknowledged(&mut self) -> Result<(), u16> {
        let message = self.receive().await?;
        assert_eq!(message["type"], "connection_ack");
        Ok(())
    }

    pub async fn event(&mut self) -> Event {
        let message = match self.receive().await {
            Ok(message) => message,
            Err(code) => return Event::Closed(code),
        };
        let code = |errors: &Json| {
            errors.pointer("/0/extensions/code").and_then(Json::as_str).expect("an error has a code").to_owned()
        };
        match message["type"].as_str() {
            Some("next") => match message["payload"].get("errors") {
                Some(errors) => Event::Error(code(errors)),
                None => Event::Next(message["payload"]["data"].clone()),
            },
            Some("error") => Event::Error(code(&message["payload"])),
            Some("complete") => Event::Complete,
            _ => panic!("{message}"),
        }
    }
}

/// A subscription on a socket of its own.
pub struct Subscription(Socket);

impl Subscription {
    pub async fn event(&mut self) -> Event {
        self.0.event().await
    }

    /// Receives the next result; returns its one field.
    pub async fn next(&mut self) -> Json {
        let data = self.event().await.data();
        let fields = data.as_object().expect("an object");
        fields.values().next().expect("a field").clone()
    }

    /// Receives everything until the socket is closed; returns the events that are not results.
    pub async fn end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.event().await {
                Event::Next(_) => {}
                closed @ Event::Closed(_) => {
                    events.push(closed);
                    return events;
                }
                other => events.push(other),
            }
        }
    }
}

impl Operator<'_> {
    /// Starts a subscription on a socket of its own, at the instance that listens at `address`.
    pub async fn subscribe_at(&self, address: SocketAddr, document: &str, variables: Json) -> Subscription {
        let payload = json!({ "authorization": format!("Bearer {}", self.token) });
        let mut socket = Socket::open(address, &[], payload).await;
        socket.acknowledged().await.expect("acknowledged");
        let payload = json!({ "query": document, "variables": variables });
        socket.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        Subscription(socket)
    }

    pub async fn subscribe(&self, document: &str, variables: Json) -> Subscription {
        let address = self.app.listen().await;
        self.subscribe_at(address, document, variables).await
    }
}
