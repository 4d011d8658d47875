//! Sessions of operators.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::OperatorId;
use crate::domain::sessions::{Session, SessionId};

#[async_trait]
pub trait SessionStore {
    /// Returns the session, ended or not. A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>>;

    /// As strong as [`find_session`](Self::find_session), for one change rather than for every request.
    async fn find_session_to_change(&self, id: SessionId) -> Result<Option<Session>>;

    /// Returns the `limit` oldest sessions that the operator opened under this version of the password, the oldest first,
    /// including ended ones that have not been purged yet.
    async fn list_oldest_sessions(
        &self,
        operator: OperatorId,
        password_version: u64,
        limit: usize,
    ) -> Result<Vec<Session>>;

    /// Returns the operator's sessions, including ended ones that have not been purged yet.
    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>>;
}
