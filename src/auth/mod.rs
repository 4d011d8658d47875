//! Authentication: session tokens, passwords, known browsers, and limits on attempts.

pub mod cost;
pub mod devices;
pub mod limiter;
pub mod passwords;
pub mod throttle;
pub mod tokens;
