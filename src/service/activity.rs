//! When sessions were last used, for `--session-idle`.
//!
//! Kept in memory to the minute, so that a request costs no write. Once a minute, what is new is written to the store, as
//! the time at which the session will have been idle for too long, in a bucket that nothing takes tokens from. It is in
//! no row of a session, no audit entry and no feed; without one, a session was last used when it was created. An instance
//! reads it only before it would refuse a session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::sessions::{Session, SessionId};
use crate::domain::time::Timestamp;

/// Uses of a session within this time of a recorded one are not recorded.
const PRECISION: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Activity(Mutex<HashMap<SessionId, LastUse>>);

struct LastUse {
    at: Timestamp,
    is_written: bool,
}

/// The bucket of a session in the store.
pub(super) fn bucket(session: SessionId) -> String {
    format!("session/active/{}", String::from(session))
}

/// When a session ends that was last used at `at`, as far as is recorded.
pub(super) fn end(at: Timestamp, idle: Duration) -> Timestamp {
    at.plus(idle + PRECISION)
}

impl Activity {
    /// When the session was last used, as far as this instance has seen.
    pub(super) fn last_use(&self, session: &Session) -> Timestamp {
        self.sessions().get(&session.id).map_or(session.created_at, |last| last.at)
    }

    pub(super) fn record(&self, session: SessionId, now: Timestamp) {
        let mut sessions = self.sessions();
        let last = sessions.entry(session).or_insert(LastUse { at: Timestamp::default(), is_written: false });
        if now.since(last.at) >= PRECISION {
            *last = LastUse { at: now, is_written: false };
        }
    }

    /// Takes over what another instance has written: that the session ends at `end`.
    pub(super) fn read(&self, session: SessionId, end: Timestamp, idle: Duration) {
        let at = end.minus(idle + PRECISION);
        let mut sessions = self.sessions();
        let last = sessions.entry(session).or_insert(LastUse { at, is_written: true });
        if at > last.at {
            *last = LastUse { at, is_written: true };
        }
    }

    /// Returns the uses that are not written yet, and drops the sessions that have been idle for too long.
    pub(super) fn take_unwritten(&self, idle: Duration, now: Timestamp) -> Vec<(SessionId, Timestamp)> {
        let mut sessions = self.sessions();
        sessions.retain(|_, last| end(last.at, idle) > now);
        let unwritten = sessions.iter_mut().filter(|(_, last)| !last.is_written);
        let written = unwritten.map(|(session, last)| {
            last.is_written = true;
            (*session, last.at)
        });
        written.collect()
    }

    /// Marks a use as not written, after a failed write.
    pub(super) fn put_back(&self, session: SessionId) {
        if let Some(last) = self.sessions().get_mut(&session) {
            last.is_written = false;
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, LastUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::sessions::SessionSecret;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const IDLE: Duration = Duration::from_secs(600);

    #[test]
    fn a_use_is_written_at_most_once_a_minute() {
        let (activity, session) = (Activity::default(), SessionSecret::generate(&mut StdRng::seed_from_u64(1)).id());
        let second = |n| NOW.plus(Duration::from_secs(n));
        let mut written = Vec::new();
        for n in 0..180 {
            activity.record(session, second(n));
            written.extend(activity.take_unwritten(IDLE, second(n)));
        }
        assert_eq!(written, [0, 60, 120].map(|n| (session, second(n))));
        activity.put_back(session);
        assert_eq!(activity.take_unwritten(IDLE, second(180)), [(session, second(120))]);
        assert_eq!(activity.take_unwritten(IDLE, second(120 + 660)), []);
        assert!(activity.sessions().is_empty(), "idle sessions take no memory");
    }
}
