import type { AuditAction } from "@keymark/client/documents";

/** The actions after which operators or their sessions are different. */
export const OPERATOR_CHANGES: readonly AuditAction[] = [
  "OPERATOR_ADDED",
  "OPERATOR_REMOVED",
  "OPERATOR_PROMOTED",
  "OPERATOR_SUSPENDED",
  "OPERATOR_RESUMED",
  "PERMISSIONS_CHANGED",
  "PASSWORD_CHANGED",
  "SIGNED_IN",
  "SIGNED_OUT",
  "SESSIONS_ENDED",
  "STORE_RESTORED",
];

export const SERVICE_TOKEN_CHANGES: readonly AuditAction[] = [
  "SERVICE_TOKEN_CREATED",
  "SERVICE_TOKEN_ROTATED",
  "SERVICE_TOKEN_REVOKED",
];

export const VERIFIER_TOKEN_CHANGES: readonly AuditAction[] = [
  "VERIFIER_TOKEN_CREATED",
  "VERIFIER_TOKEN_REVOKED",
];

export const TENANT_CHANGES: readonly AuditAction[] = [
  "TENANT_CREATED",
  "TENANT_RENAMED",
  "TENANT_POLICY_CHANGED",
  "TENANT_SUSPENDED",
  "TENANT_RESUMED",
  "TENANT_DELETED",
];
