//! Every operator and every session in memory.

use std::collections::HashMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::ids::OperatorId;
use crate::domain::operators::Operator;
use crate::domain::sessions::{Session, SessionId};

/// Operators and sessions by id.
///
/// Rows may come in any order and more than once: the greatest revision of an operator stands, and a session is never
/// changed. A removal leaves nothing behind that a row read earlier could be compared with: rows of a scan must be in
/// before the feed is followed from where the scan began, or a session that was ended would be back.
#[derive(Default)]
pub struct Identities {
    operators: RwLock<HashMap<OperatorId, Arc<Operator>>>,
    sessions: RwLock<HashMap<SessionId, Session>>,
}

impl Identities {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a row as the feed or a scan gives it, unless what is there is newer.
    pub fn put_operator(&self, operator: &Operator) {
        let mut operators = write(&self.operators);
        if operators.get(&operator.id).is_none_or(|known| operator.revision > known.revision) {
            operators.insert(operator.id, Arc::new(operator.clone()));
        }
    }

    /// Their sessions go by themselves: each was forgotten in the batch that removed the operator.
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

    /// The session, ended or not: [`Session::stands`] says.
    pub fn find_session(&self, id: &SessionId) -> Option<Session> {
        read(&self.sessions).get(id).cloned()
    }

    /// How many operators there are.
    pub fn operators(&self) -> usize {
        read(&self.operators).len()
    }

    /// How many sessions there are, ended ones that were not purged yet included.
    pub fn sessions(&self) -> usize {
        read(&self.sessions).len()
    }
}

/// A table that a panic left half written must answer nothing: it could have lost a removal.
const NO_PANIC: &str = "no writer panics while it holds the lock";

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect(NO_PANIC)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect(NO_PANIC)
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
    fn a_stale_operator_does_not_replace_a_newer_one() {
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
    fn a_session_is_there_until_it_is_removed() {
        let (identities, session) = (Identities::new(), session_of(&operator()));
        identities.put_session(&session);
        identities.put_session(&session);
        assert_eq!((identities.find_session(&session.id), identities.sessions()), (Some(session.clone()), 1));
        identities.remove_session(session.id);
        assert_eq!((identities.find_session(&session.id), identities.sessions()), (None, 0));
    }
}
