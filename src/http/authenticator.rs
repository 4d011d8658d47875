//! Authentication, as the GraphQL transports use it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::future::BoxFuture;
use http::request::Parts;

use super::error::ErrorResponse;
use crate::graphql::engine::OperationContext;
use crate::service::concurrency::Slot;

/// Authenticates clients.
pub trait Authenticator: Clone + Send + Sync + 'static {
    /// Called once for an HTTP request, before its body is read.
    fn authenticate(&self, parts: &Parts) -> impl Future<Output = Result<OperationContext, ErrorResponse>> + Send;

    /// Called before a WebSocket is opened, to refuse a foreign `Origin`.
    fn check_upgrade(&self, parts: &Parts) -> impl Future<Output = Result<(), ErrorResponse>> + Send;

    /// Called when an open WebSocket receives `connection_init`, with the request that opened it and the payload of the
    /// message, which is empty if there is none. An error closes the socket: with 1013 if its status says that a retry may
    /// succeed (429 and 5xx), otherwise with 4403.
    fn authenticate_socket(
        &self,
        parts: &Parts,
        payload: &serde_json::Map<String, serde_json::Value>,
    ) -> impl Future<Output = Result<SocketSession, ErrorResponse>> + Send;
}

/// The session of a WebSocket.
pub struct SocketSession {
    pub context: OperationContext,
    /// Resolves when the session ends; the socket then closes with 4403.
    pub ended: BoxFuture<'static, ()>,
    /// Set while `ended` looks up whether a change has ended the session. No operation is polled meanwhile, since it could
    /// learn of the end earlier.
    pub is_checked: Arc<AtomicBool>,
    /// Counts the socket towards the limit of its operator, if there is one.
    pub slot: Option<Slot>,
}
