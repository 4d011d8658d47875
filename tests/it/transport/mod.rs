//! The GraphQL transport: HTTP, WebSocket, and the bounds on hostile documents; against a schema and a gate of
//! its own.

mod documents;
mod hostile;
mod http;
mod serve;
mod toy;
mod websocket;
