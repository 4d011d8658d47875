//! The GraphQL transport: HTTP, WebSocket and the limits on documents, with a schema and a gate made for these tests.

mod documents;
mod hostile;
mod http;
mod serve;
mod toy;
mod websocket;
