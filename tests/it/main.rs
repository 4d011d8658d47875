//! Everything that Keymark guarantees, tested from outside.

mod backends;
mod console_files;
mod contract;
mod embedded_store;
mod mongo_store;
mod readme;
mod support;
mod transport;
