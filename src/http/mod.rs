//! HTTP: every route of both listeners.

pub mod gate;
pub mod graphql;
mod operation;
pub mod serve;
pub mod websocket;
