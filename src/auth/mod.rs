//! Authentication: session tokens, passwords, and limits on attempts.

pub mod passwords;
pub mod throttle;
pub mod tokens;
