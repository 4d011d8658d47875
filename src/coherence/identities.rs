//! The cached operators and sessions of all tenants.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::locks::{read, write};
use crate::domain::ids::OperatorId;
use crate::domain::operators::Operator;
use crate::domain::sessions::{Session, SessionId};

/// Operators and sessions by id.
///
/// Rows may be put in any order and more than once: the greatest revision of an operator wins, and sessions never
/// change. A removal leaves no trace, so an older row that is put afterwards would bring back a session that has ended.
/// Therefore all rows of a scan must be put before any change that the feed delivers after the scan began.
#[derive(Default)]
pub struct Identities {
    operators: RwLock<HashMap<OperatorId, Arc<Operator>>>,
    sessions: RwLock<HashMap<SessionId, Session>>,
}

impl Identities {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the operator unless a newer revision is cached.
    pub fn put_operator(&self, operator: &Operator) {
        let mut operators = write(&self.operators);
        if operators.get(&operator.id).is_none_or(|cached| operator.revision > cached.revision) {
            operators.insert(operator.id, Arc::new(operator.clone()));
        }
    }

    /// Stores the operator whatever revision is cached.
    pub fn overwrite_operator(&self, operator: &Operator) {
        write(&self.operators).insert(operator.id, Arc::new(operator.clone()));
    }

    /// Leaves the sessions, of which none is valid any more: they are purged later.
    pub fn remove_operator(&self, id: OperatorId) {
        write(&self.operators).remove(&id);
    }

    pub fn put_session(&self, session: &Session) {
        write(&self.sessions).insert(session.id, session.clone());
    }

    pub fn remove_session(&self, id: SessionId) {
        write(&self.sessions).remove(&id);
    }

    pub fn find_operator(&self, id: OperatorId) -> Option<Arc<Operator>> {
        read(&self.operators).get(&id).cloned()
    }

    /// Returns the session even if it has ended: see [`Session::is_valid_for`].
    pub fn find_session(&self, id: &SessionId) -> Option<Session> {
        read(&self.sessions).get(id).cloned()
    }

    pub fn operators(&self) -> usize {
        read(&self.operators).len()
    }

    /// Number of sessions, including those that have ended but are not purged yet.
    pub fn sessions(&self) -> usize {
        read(&self.sessions).len()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::operators::PasswordHash;
    use crate::domain::permissions::Permissions;
    use crate::domain::sessions::SessionSecret;
    use crate::domain::time::Timestamp;

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);

    fn operator() -> Operator {
        let id = OperatorId::new(NOON, &mut StdRng::seed_from_u64(1));
        let hash = PasswordHash::from_phc(String::new());
        Operator::new(id, "acme".parse().unwrap(), "ada".parse().unwrap(), hash, Permissions::default(), NOON)
    }

    fn session_of(operator: &Operator) -> Session {
        Session {
            id: SessionSecret::generate(&mut StdRng::seed_from_u64(2)).id(),
            tenant: operator.tenant.clone(),
            operator: operator.id,
            password_version: operator.password_version,
            created_at: NOON,
            expires_at: NOON,
        }
    }

    #[test]
    fn older_revision_does_not_replace_a_newer_one() {
        let (identities, first) = (Identities::new(), operator());
        let second = first.with_password(PasswordHash::from_phc(String::new()), NOON);
        identities.put_operator(&second);
        identities.put_operator(&first);
        assert_eq!(identities.find_operator(first.id).as_deref(), Some(&second));
        assert_eq!(identities.operators(), 1);
        identities.remove_operator(first.id);
        assert_eq!((identities.find_operator(first.id), identities.operators()), (None, 0));
    }

    #[test]
    fn session_is_found_until_it_is_removed() {
        let (identities, session) = (Identities::new(), session_of(&operator()));
        identities.put_session(&session);
        identities.put_session(&session);
        assert_eq!((identities.find_session(&session.id), identities.sessions()), (Some(session.clone()), 1));
        identities.remove_session(session.id);
        assert_eq!((identities.find_session(&session.id), identities.sessions()), (None, 0));
    }
}
