//! An embedded store: one redb file, one process, nothing to install.
//!
//! Commits are two-phase and synced before they are reported. The last [`MAX_FEED_CHANGES`] changes are kept as the feed.

mod audit;
mod audit_heads;
mod backup;
mod changes;
mod commit;
mod errors;
mod feed;
mod join;
mod keys;
mod leases;
mod migrations;
mod operators;
mod purge;
mod rows;
mod scan;
mod sessions;
mod settings;
mod snapshot;
mod store;
mod subjects;
mod systems;
mod tables;
mod tenants;
mod throttle;
mod tokens;
mod transfer;
mod usage;
mod writer;

pub use self::backup::{Held, check_file, hold};
pub use self::errors::OpenError;
pub use self::store::{EmbeddedStore, FILE_NAME, MAX_FEED_CHANGES};
