//! Everything that Keymark guarantees, tested from outside.

mod mongo_store;
mod support;
mod transport;
