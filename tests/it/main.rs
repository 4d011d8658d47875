//! Everything that Keymark guarantees, tested from outside.

mod backends;
mod contract;
