//! When sessions, operators and tokens were last used.
//!
//! Kept in memory to the minute, so that a request costs no write. Once a minute, what is new is written to the store, in
//! a bucket that nothing takes tokens from, and whose arrival is the time of the use and how long it is kept. It is in no
//! row, no audit entry and no feed.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use crate::domain::ids::{OperatorId, TokenId};
use crate::domain::sessions::SessionId;
use crate::domain::time::Timestamp;

/// Uses within this time of a recorded one are not recorded.
const PRECISION: Duration = Duration::from_secs(60);
/// How long a use of a session is kept: longer than any session may be idle.
const SESSION_RETENTION: Duration = Duration::from_hours(31 * 24);
/// How long a use of an operator or token is kept.
const RETENTION: Duration = Duration::from_hours(400 * 24);
/// How long a use that is written stays in memory.
const MEMORY_RETENTION: Duration = Duration::from_hours(24);

#[derive(Default)]
pub(super) struct Activity(RwLock<HashMap<Subject, LastUse>>);

/// Whose use is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Session(SessionId),
    Operator(OperatorId),
    Token(TokenId),
}

struct LastUse {
    at: Timestamp,
    is_written: bool,
}

impl Subject {
    /// The bucket in the store.
    pub(super) fn bucket(&self) -> String {
        match self {
            Self::Session(session) => format!("used/session/{}", String::from(*session)),
            Self::Operator(operator) => format!("used/{operator}"),
            Self::Token(token) => format!("used/{token}"),
        }
    }

    /// The arrival in the bucket of a use at this time.
    pub(super) fn arrival(&self, at: Timestamp) -> Timestamp {
        at.plus(self.retention())
    }

    /// The inverse of [`arrival`](Self::arrival); `None` for an empty bucket.
    pub(super) fn used_at(&self, arrival: Timestamp) -> Option<Timestamp> {
        (arrival > Timestamp::default()).then(|| arrival.minus(self.retention()))
    }

    fn retention(&self) -> Duration {
        if matches!(self, Self::Session(_)) { SESSION_RETENTION } else { RETENTION }
    }
}

/// When a session ends that was last used at `at`, as far as is recorded.
pub(super) fn end(at: Timestamp, idle: Duration) -> Timestamp {
    at.plus(idle + PRECISION)
}

impl Activity {
    /// When it was last used, as far as this instance has seen.
    pub(super) fn last_use(&self, subject: Subject) -> Option<Timestamp> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&subject).map(|last| last.at)
    }

    pub(super) fn record(&self, subject: Subject, now: Timestamp) {
        // Verifications with a token do not wait for each other here, except once a minute.
        if self.last_use(subject).is_some_and(|at| now.since(at) < PRECISION) {
            return;
        }
        let mut uses = self.uses();
        let last = uses.entry(subject).or_insert(LastUse { at: Timestamp::default(), is_written: false });
        if now.since(last.at) >= PRECISION {
            *last = LastUse { at: now, is_written: false };
        }
    }

    /// Takes over what another instance has written.
    pub(super) fn read(&self, subject: Subject, at: Timestamp) {
        let mut uses = self.uses();
        let last = uses.entry(subject).or_insert(LastUse { at, is_written: true });
        if at > last.at {
            *last = LastUse { at, is_written: true };
        }
    }

    /// Returns the uses that are not written yet, and drops old ones.
    pub(super) fn take_unwritten(&self, now: Timestamp) -> Vec<(Subject, Timestamp)> {
        let mut uses = self.uses();
        uses.retain(|_, last| !last.is_written || now.since(last.at) < MEMORY_RETENTION);
        let unwritten = uses.iter_mut().filter(|(_, last)| !last.is_written);
        let written = unwritten.map(|(subject, last)| {
            last.is_written = true;
            (*subject, last.at)
        });
        written.collect()
    }

    /// Marks a use as not written, after a failed write.
    pub(super) fn put_back(&self, subject: Subject) {
        if let Some(last) = self.uses().get_mut(&subject) {
            last.is_written = false;
        }
    }

    fn uses(&self) -> RwLockWriteGuard<'_, HashMap<Subject, LastUse>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::sessions::SessionSecret;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_use_is_written_at_most_once_a_minute() {
        let session = Subject::Session(SessionSecret::generate(&mut StdRng::seed_from_u64(1)).id());
        let (activity, second) = (Activity::default(), |n| NOW.plus(Duration::from_secs(n)));
        let mut written = Vec::new();
        for n in 0..180 {
            activity.record(session, second(n));
            written.extend(activity.take_unwritten(second(n)));
        }
        assert_eq!(written, [0, 60, 120].map(|n| (session, second(n))));
        activity.put_back(session);
        assert_eq!(activity.take_unwritten(second(180)), [(session, second(120))]);
        assert_eq!(activity.take_unwritten(NOW.plus(2 * MEMORY_RETENTION)), []);
        assert!(activity.uses().is_empty(), "old uses take no memory");
    }

    #[test]
    fn a_use_can_be_read_from_its_bucket() {
        let session = Subject::Session(SessionSecret::generate(&mut StdRng::seed_from_u64(1)).id());
        assert_eq!(session.used_at(session.arrival(NOW)), Some(NOW));
        assert_eq!(session.used_at(Timestamp::default()), None);
    }
}
