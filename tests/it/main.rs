//! Everything that Keymark guarantees, tested from outside.

mod audit_log;
mod authorisation;
mod backends;
mod browsers;
mod cluster;
mod console_files;
mod contract;
mod embedded_store;
mod fan_out;
mod hygiene;
mod keys;
mod layers;
mod mongo_store;
mod pages;
mod processes;
mod readme;
mod schema;
mod sign_in;
mod starts;
mod subscriptions;
mod support;
mod systems;
mod transport;
mod verification;
