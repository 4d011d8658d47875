//! Sessions whose reads are as strong as linearizable ones.
//!
//! A session starts with a small write of its own, acknowledged by a majority. Every change that was reported before the
//! write was sent precedes it in the committed log, and the reads of the causally consistent session are at or after its
//! operation time, even at a primary that is deposed meanwhile, or at a new one whose commit point lags.
//! (<https://www.mongodb.com/docs/v6.0/core/causal-consistency-read-write-concerns/>) Unlike a linearizable read, it does
//! not wait for the journal's commit interval on a set of one member.

use mongodb::bson::{Document, doc};
use mongodb::options::Hint;
use mongodb::{ClientSession, Collection, Database};

use super::collections::META;
use super::errors::corrupt;
use super::rows::{Stored, from_document};
use super::store::MongoStore;
use crate::store::Result;

impl MongoStore {
    /// Starts a session whose reads see every change that was reported before this call.
    pub(super) async fn start_current_session(&self, call: &'static str) -> Result<ClientSession> {
        self.start_current_session_in(&self.database, call).await
    }

    /// Starts such a session for reads of this database, over its client.
    pub(super) async fn start_current_session_in(
        &self,
        database: &Database,
        call: &'static str,
    ) -> Result<ClientSession> {
        let mut session = self.bounded(call, database.client().start_session().causal_consistency(true)).await?;
        let meta = database.collection::<Document>(META);
        let write = meta.update_one(doc! { "_id": "session" }, doc! { "$inc": { "count": 1_i64 } }).upsert(true);
        self.bounded(call, write.session(&mut session)).await?;
        if session.operation_time().is_none() {
            return Err(corrupt("a response without an operation time"));
        }
        Ok(session)
    }

    /// Finds a row in such a session.
    pub(super) async fn find_one_current<T: Stored>(
        &self,
        call: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<Option<T>> {
        let mut session = self.start_current_session(call).await?;
        self.find_one_in(&mut session, call, collection, filter, index).await
    }

    pub(super) async fn find_one_in<T: Stored>(
        &self,
        session: &mut ClientSession,
        call: &'static str,
        collection: &Collection<Document>,
        filter: Document,
        index: &str,
    ) -> Result<Option<T>> {
        let find = collection.find_one(filter).hint(Hint::Name(index.to_owned())).max_time(self.limits.call);
        self.bounded(call, find.session(session)).await?.map(from_document).transpose()
    }
}
