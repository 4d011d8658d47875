//! Look-ups and lists of sessions.

use async_trait::async_trait;
use mongodb::bson::doc;
use mongodb::options::Hint;

use super::migrations;
use super::reads::{BY_ID, find_first, list_of};
use super::rows::{number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::ids::OperatorId;
use crate::domain::sessions::{Session, SessionId};
use crate::store::{Result, SessionStore};

#[async_trait]
impl SessionStore for MongoStore {
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>> {
        find_first(&self.session_reads, &[id]).await
    }

    async fn find_session_to_change(&self, id: SessionId) -> Result<Option<Session>> {
        self.find_one_current("find_session_to_change", &self.sessions, doc! { "_id": to_bson(&id)? }, BY_ID).await
    }

    async fn list_oldest_sessions(
        &self,
        operator: OperatorId,
        password_version: u64,
        limit: usize,
    ) -> Result<Vec<Session>> {
        let filter = doc! { "operator": to_bson(&operator)?, "passwordVersion": number_to_bson(password_version) };
        let find = self
            .sessions
            .find(filter)
            .sort(doc! { "createdAt": 1, "_id": 1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .hint(Hint::Name(migrations::SESSIONS_OPERATOR.to_owned()))
            .max_time(self.limits.call);
        list_of(self.collect("list_oldest_sessions", find).await?)
    }

    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        let find = self
            .sessions
            .find(doc! { "operator": to_bson(&operator)? })
            .hint(Hint::Name(migrations::SESSIONS_OPERATOR.to_owned()))
            .max_time(self.limits.call);
        list_of(self.collect("list_sessions", find).await?)
    }
}
