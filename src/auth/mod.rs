//! Proving who somebody is: tokens, passwords, and how often one may try.

pub mod passwords;
pub mod throttle;
pub mod tokens;
