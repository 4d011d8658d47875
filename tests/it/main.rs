//! Everything that Keymark guarantees, tested from outside.

mod backends;
mod contract;
mod mongo_store;
mod support;
mod transport;
