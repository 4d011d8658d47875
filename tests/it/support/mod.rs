//! What tests share.

pub mod mongod;
