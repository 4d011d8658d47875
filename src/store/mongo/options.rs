//! Connection options, and the concerns and time-outs that hold whatever the URI says.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};

use super::errors::{ConnectError, TimedOut};
use crate::store::Result;

/// Default maximum number of connections of one instance to one server, without the reserved ones.
const MAX_POOL_SIZE: u32 = 50;

/// Number of connections of one instance to one server that its change feed may use, and as many for its leases and
/// loads: an instance has one feed, sends one probe at a time, and lists leases and loads rarely.
pub(super) const RESERVED_POOL_SIZE: u32 = 10;

/// The address of the database, and time limits.
#[derive(Clone)]
pub struct MongoOptions {
    /// A connection string (<https://www.mongodb.com/docs/manual/reference/connection-string/>). Its concerns, read
    /// preference and time-outs are overridden.
    pub uri: String,
    pub database: String,
    /// Time limit for one round trip to the database.
    pub call_limit: Duration,
    /// Time limit for a commit to wait for other commits of its tenant, on this instance and others.
    pub contention_limit: Duration,
}

impl MongoOptions {
    /// Limits of 4 seconds for a call and 10 seconds for contention.
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: database.into(),
            call_limit: Duration::from_secs(4),
            contention_limit: Duration::from_secs(10),
        }
    }
}

/// Omits the URI, which may contain a password.
impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions").field("database", &self.database).finish_non_exhaustive()
    }
}

/// The time limits of [`MongoOptions`].
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) call: Duration,
    pub(super) contention: Duration,
}

pub(super) fn check_database_name(name: &str) -> Result<(), ConnectError> {
    let well_formed = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !["admin", "local", "config"].contains(&name);
    if well_formed { Ok(()) } else { Err(ConnectError::DatabaseName(name.to_owned())) }
}

/// Every write waits for the journals of a majority. The server's limit is later than the caller's, so that the caller
/// is the one that times out.
pub(super) fn write_concern(limits: Limits) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(limits.call * 2).build()
}

/// Parses the URI and overrides its concerns, read preference and time-outs.
pub(super) async fn client_options(uri: &str, limits: Limits) -> Result<ClientOptions, ConnectError> {
    // The driver's message may repeat parts of the URI, which may include the password.
    let parsed = tokio::time::timeout(limits.call, ClientOptions::parse(uri));
    let mut options = match parsed.await {
        Ok(Ok(options)) => options,
        Ok(Err(error)) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
            return Err(ConnectError::Unreachable(Box::new(error)));
        }
        Ok(Err(_)) => return Err(ConnectError::Uri),
        Err(_) => return Err(ConnectError::Unreachable(TimedOut::new("resolving the URI").into())),
    };
    if options.read_concern.as_ref().is_some_and(|concern| *concern != ReadConcern::majority())
        || options.selection_criteria.as_ref().is_some_and(|criteria| !reads_primary(criteria))
        || options.write_concern.as_ref().is_some_and(is_weaker)
    {
        tracing::warn!("weaker concerns or read preference of the MongoDB URI overridden");
    }
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(write_concern(limits));
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_reads = Some(true);
    options.retry_writes = Some(true);
    // The loss and the return of a server are both noticed well within the limit of a call.
    options.connect_timeout = Some(limits.call / 2);
    options.server_selection_timeout = Some(limits.call * 3 / 4);
    options.heartbeat_freq = Some((limits.call / 4).max(Duration::from_millis(500)));
    options.max_pool_size.get_or_insert(MAX_POOL_SIZE);
    options.app_name.get_or_insert_with(|| "keymark".to_owned());
    Ok(options)
}

/// Checks that the client took over the configured concerns.
pub(super) fn check_concerns(client: &Client) -> Result<(), ConnectError> {
    let reads = client.read_concern() == Some(&ReadConcern::majority());
    let writes = client
        .write_concern()
        .is_some_and(|concern| concern.w == Some(Acknowledgment::Majority) && concern.journal == Some(true));
    let primary = client.selection_criteria().is_some_and(reads_primary);
    if reads && writes && primary { Ok(()) } else { Err(ConnectError::Concerns) }
}

fn reads_primary(criteria: &SelectionCriteria) -> bool {
    matches!(criteria, SelectionCriteria::ReadPreference(ReadPreference::Primary))
}

fn is_weaker(concern: &WriteConcern) -> bool {
    concern.w.as_ref().is_some_and(|w| *w != Acknowledgment::Majority) || concern.journal == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_do_not_print_the_password() {
        let options = MongoOptions::new("mongodb://u:hunter2@localhost/", "keymark");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
