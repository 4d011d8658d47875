//! What is answered from memory.

pub mod index;
pub mod people;
