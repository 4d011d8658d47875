//! Names of the collections.

pub(super) const SYSTEMS: &str = "systems";
pub(super) const KEYS: &str = "keys";
pub(super) const OPERATORS: &str = "operators";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const AUDIT: &str = "audit";
/// The head of each tenant's audit log: `{_id: tenant, number, hash}`.
pub(super) const TENANTS: &str = "tenants";
/// The last lease of each incarnation of an instance.
pub(super) const LEASES: &str = "leases";
pub(super) const BUCKETS: &str = "buckets";
/// Settings, markers and the version of the schema.
pub(super) const META: &str = "meta";
