//! An embedded store: one redb file, one process.
