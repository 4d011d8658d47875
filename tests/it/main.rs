//! Everything that Keymark guarantees, tested from outside.

mod console_files;
mod transport;
