//! Names of the collections.

pub(super) const SYSTEMS: &str = "systems";
pub(super) const KEYS: &str = "keys";
pub(super) const OPERATORS: &str = "operators";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const AUDIT: &str = "audit";
/// The head of each tenant's audit log: `{_id: tenant, number, hash}`.
pub(super) const AUDIT_HEADS: &str = "tenants";
/// The row of each tenant.
pub(super) const TENANTS: &str = "tenantRows";
pub(super) const TOKENS: &str = "tokens";
/// The last lease of each incarnation of an instance.
pub(super) const LEASES: &str = "leases";
pub(super) const BUCKETS: &str = "buckets";
/// When the keys of each system were last presented.
pub(super) const USAGE: &str = "usage";
/// Use of a system's keys on a day, by hour.
pub(super) const USAGE_HOURS: &str = "usageHours";
/// Use of a system's keys in a month, by day.
pub(super) const USAGE_DAYS: &str = "usageDays";
/// The last flush of each instance: `{_id: instance, number, at}`.
pub(super) const USAGE_FLUSHES: &str = "usageFlushes";
/// Settings, markers and the version of the schema.
pub(super) const META: &str = "meta";
