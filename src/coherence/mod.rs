//! What an instance knows by heart, and why it may act on it.

pub mod index;
pub mod people;
pub mod protocol;
