//! Look-ups and lists of sessions.

use async_trait::async_trait;

use super::errors::storage;
use super::snapshot::Snapshot;
use super::store::EmbeddedStore;
use super::tables::{SESSIONS, SESSIONS_BY_OPERATOR, successor};
use crate::domain::ids::OperatorId;
use crate::domain::sessions::{Session, SessionId};
use crate::store::errors::skip_unreadable;
use crate::store::{Result, SessionStore};

#[async_trait]
impl SessionStore for EmbeddedStore {
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read(|snapshot| snapshot.get(SESSIONS, String::from(id).as_str()))
    }

    async fn find_session_to_change(&self, id: SessionId) -> Result<Option<Session>> {
        self.find_session(id).await
    }

    async fn list_oldest_sessions(
        &self,
        operator: OperatorId,
        password_version: u64,
        limit: usize,
    ) -> Result<Vec<Session>> {
        let mut sessions = self.read_blocking(move |snapshot| snapshot.list_sessions(operator)).await?;
        sessions.retain(|session| session.password_version == password_version);
        // Stable, and so by id where times are equal: concurrent callers end the same ones.
        sessions.sort_by_key(|session| session.created_at);
        sessions.truncate(limit);
        Ok(sessions)
    }

    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        self.read(|snapshot| snapshot.list_sessions(operator))
    }
}

impl Snapshot {
    pub(super) fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        let by_operator = self.0.open_table(SESSIONS_BY_OPERATOR).map_err(storage)?;
        let operator = operator.to_string();
        let end = successor(&operator);
        let mut listed = Vec::new();
        for row in by_operator.range((operator.as_str(), "")..(end.as_str(), "")).map_err(storage)? {
            let (key, _) = row.map_err(storage)?;
            listed.extend(skip_unreadable(self.get(SESSIONS, key.value().1))?.flatten());
        }
        Ok(listed)
    }
}
