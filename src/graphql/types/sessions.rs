//! Sessions of operators.

use async_graphql::{ID, SimpleObject};

use super::DateTime;
use crate::domain::sessions::SessionId;
use crate::service::Caller;
use crate::service::open_sessions::OpenSession;

const PREFIX: &str = "ses_";

/// A place where an operator is signed in.
#[derive(SimpleObject)]
pub(crate) struct Session {
    /// Globally unique id, for `Query.node` and `endSessions`. It does not reveal the session's token.
    pub id: ID,
    /// Time at which the operator signed in.
    started_at: DateTime,
    /// Time of the last request of the session on any instance, to the minute; it arrives within two minutes.
    last_active_at: DateTime,
    /// Time at which the session expires, unless it ends before.
    expires_at: DateTime,
    /// Network that the operator signed in from: the IP address, or the /64 of an IPv6 address. Null if it is not known.
    network: Option<String>,
    /// `User-Agent` of the client that signed in. Null if it sent none.
    user_agent: Option<String>,
    /// Whether this request belongs to the session.
    is_current: bool,
}

impl Session {
    /// `current`: the session that the request belongs to.
    pub(super) fn new(open: OpenSession, current: Option<SessionId>) -> Self {
        let OpenSession { session, last_used_at } = open;
        Self {
            id: format!("{PREFIX}{}", String::from(session.id)).into(),
            started_at: DateTime(session.created_at),
            last_active_at: DateTime(last_used_at),
            expires_at: DateTime(session.expires_at),
            network: session.network.map(|network| network.to_string()),
            user_agent: session.user_agent.map(String::from),
            is_current: current == Some(session.id),
        }
    }

    /// The session, as the caller sees it.
    pub(crate) fn seen_by(caller: &Caller, open: OpenSession) -> Self {
        Self::new(open, current_of(caller))
    }
}

/// The session of the caller's request. `None` for a service token.
pub(super) fn current_of(caller: &Caller) -> Option<SessionId> {
    caller.signed_in().ok().map(|(_, session)| session.id)
}

/// Parses the id of a session. `None` for anything that is not one in the spelling of [`Session::id`].
pub(crate) fn session_id(id: &ID) -> Option<SessionId> {
    let digits = id.strip_prefix(PREFIX)?;
    let is_canonical = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    digits.to_owned().try_into().ok().filter(|_| is_canonical)
}
