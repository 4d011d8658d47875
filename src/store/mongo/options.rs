//! Connection options, and the concerns and time-outs that hold whatever the URI says.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};

use super::errors::{ConnectError, TimedOut};
use crate::store::Result;

/// Most connections of one instance to one server, unless the URI says otherwise.
const POOL: u32 = 50;

/// Where the database is, and how long it may take to answer.
#[derive(Clone)]
pub struct MongoOptions {
    /// A connection string (<https://www.mongodb.com/docs/manual/reference/connection-string/>). What it says of
    /// concerns, read preference and time-outs is overruled.
    pub uri: String,
    /// The name of the database.
    pub database: String,
    /// How long one exchange with the database may take.
    pub call_limit: Duration,
    /// How long a commit may wait for others of its tenant, on this instance and others.
    pub contention_limit: Duration,
}

impl MongoOptions {
    /// Four seconds for an exchange, ten for contention.
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: database.into(),
            call_limit: Duration::from_secs(4),
            contention_limit: Duration::from_secs(10),
        }
    }
}

/// Without the URI, which may hold a password.
impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions").field("database", &self.database).finish_non_exhaustive()
    }
}

/// How long things may take.
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

/// What every write waits for: a majority has it, in its journal. The server gives up waiting a little after the
/// caller did.
pub(super) fn write_concern(limits: Limits) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(limits.call * 2).build()
}

/// What the URI says, and the concerns and time-outs that hold whatever it says.
pub(super) async fn client_options(uri: &str, limits: Limits) -> Result<ClientOptions, ConnectError> {
    // The driver's message may repeat what it could not read, and that may be a password.
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
        tracing::warn!("the MongoDB URI asks for weaker concerns or for reads of secondaries: this is overruled");
    }
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(write_concern(limits));
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_reads = Some(true);
    options.retry_writes = Some(true);
    // A lost server is noticed well within the limit of a call, and so is its return.
    options.connect_timeout = Some(limits.call / 2);
    options.server_selection_timeout = Some(limits.call * 3 / 4);
    options.heartbeat_freq = Some((limits.call / 4).max(Duration::from_millis(500)));
    options.max_pool_size.get_or_insert(POOL);
    options.app_name.get_or_insert_with(|| "keymark".to_owned());
    Ok(options)
}

/// The client was told its concerns; this is what it made of them.
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
