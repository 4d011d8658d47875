//! Everything that Keymark guarantees, tested from outside.

#![expect(unreachable_pub, reason = "one crate: `pub` is what other files of it use")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start processes, and read the machine's clock and their own variables"
)]

mod abuse;
mod audit_log;
mod authorisation;
mod backends;
mod browsers;
mod cluster;
mod console_files;
mod contract;
mod embedded_store;
mod enforcement;
mod fan_out;
mod gateways;
mod hygiene;
mod keys;
mod layers;
mod mongo_store;
mod monitoring;
mod pages;
mod processes;
mod readme;
mod schema;
mod search;
mod sign_in;
mod starts;
mod subscriptions;
mod support;
mod systems;
mod transport;
mod verification;
