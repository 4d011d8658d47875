//! The log of sign-ins that no audit log has, since they name no operator. Lines are limited, so that a flood of sign-ins
//! is none of the log.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::throttle::network_name;
use crate::domain::quota::{Quota, take};
use crate::domain::time::Timestamp;

const LINES: Quota = Quota { burst: 20, interval: Duration::from_secs(3) };

#[derive(Default)]
pub(super) struct SignInLog(Mutex<State>);

#[derive(Default)]
struct State {
    /// See [`take`].
    arrival: Timestamp,
    /// Lines left out since the last one.
    left_out: u64,
}

impl SignInLog {
    /// Logs an attempt with the network that it came from. Never with what was typed: it may be a password.
    pub(super) fn warn(&self, event: &'static str, address: Option<IpAddr>, now: Timestamp) {
        if let Some(left_out) = self.admit(now) {
            tracing::warn!(network = %network_name(address), left_out, "{event}");
        }
    }

    /// Returns the number of lines left out before this one, or `None` if this one is left out.
    fn admit(&self, now: Timestamp) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match take(state.arrival, LINES, now) {
            Ok(next) => {
                state.arrival = next;
                Some(std::mem::take(&mut state.left_out))
            }
            Err(_) => {
                state.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_left_out_are_counted_in_the_next_one() {
        let (log, now) = (SignInLog::default(), Timestamp::from_millis(1_700_000_000_000));
        assert!((0..20).all(|_| log.admit(now) == Some(0)));
        assert!((0..500).all(|_| log.admit(now).is_none()));
        assert_eq!(log.admit(now.plus(LINES.interval)), Some(500));
    }
}
