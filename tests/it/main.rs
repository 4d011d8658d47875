//! Everything that Keymark guarantees, tested from outside.

mod console_files;
mod mongo_store;
mod support;
mod transport;
