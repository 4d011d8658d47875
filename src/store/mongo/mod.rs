//! MongoDB, one replica set: the store for more than one instance.
//!
//! Each trait of [`Store`] is implemented in the file of its concept. Beside them:
//!
//! | module | contents |
//! | --- | --- |
//! | `options`, `server`, `migrations` | connecting: options, checks of the server, collections and indexes |
//! | `collections`, `rows` | names of collections; rows as documents |
//! | `commit`, `queues` | a batch as a transaction, and the order of a tenant's batches within the instance |
//! | `reads`, `coalesce` | helpers of reads; one read for all keys, or all equal lists, that callers wait for |
//! | `system_lists` | the query of a list of systems |
//! | `current_session` | sessions whose reads are as strong as linearizable ones |
//! | `feed`, `scan` | the change stream, and reading everything that the cache is built from |
//!
//! Concerns are the strongest everywhere, whatever the URI says. Writes are acknowledged by a majority, in its journal.
//! Reads use read concern "majority" on the primary, and transactions read a snapshot. The calls that instances rely on
//! while they bypass their cache are linearizable: [`find_key`], [`find_session`], [`find_operator`] and
//! [`list_leases`] (<https://www.mongodb.com/docs/v6.0/reference/read-concern-linearizable/>). The driver has no overall
//! time-out, so every call of it is bounded here.
//!
//! [`Store`]: crate::store::Store
//! [`find_key`]: crate::store::KeyStore::find_key
//! [`find_session`]: crate::store::SessionStore::find_session
//! [`find_operator`]: crate::store::OperatorStore::find_operator
//! [`list_leases`]: crate::store::LeaseStore::list_leases

mod audit;
mod backup;
mod coalesce;
mod collections;
mod commit;
mod current_session;
mod errors;
mod feed;
mod keys;
mod leases;
mod migrations;
mod operators;
mod options;
mod purge;
mod queues;
mod reads;
mod rows;
mod scan;
mod server;
mod sessions;
mod settings;
mod store;
mod system_lists;
mod systems;
mod tenants;
mod throttle;
mod tokens;
mod transfer;
mod usage;

pub use self::errors::ConnectError;
pub use self::options::MongoOptions;
pub use self::store::MongoStore;
