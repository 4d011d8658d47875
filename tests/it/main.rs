//! Everything that Keymark guarantees, tested from outside.

mod transport;
