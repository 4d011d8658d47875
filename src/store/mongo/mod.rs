//! MongoDB, one replica set.
