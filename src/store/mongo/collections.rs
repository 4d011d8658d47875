//! Names of the collections.

pub(super) const SYSTEMS: &str = "systems";
pub(super) const KEYS: &str = "keys";
pub(super) const OPERATORS: &str = "operators";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const AUDIT: &str = "audit";
/// Where each tenant's log ends: `{_id: tenant, number, hash}`.
pub(super) const TENANTS: &str = "tenants";
/// What each incarnation of an instance last said of itself.
pub(super) const LEASES: &str = "leases";
pub(super) const BUCKETS: &str = "buckets";
/// Settings, markers and the version of all this.
pub(super) const META: &str = "meta";
