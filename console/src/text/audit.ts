import type { AuditAction, AuditEntryPartsFragment } from "@keymark/client/documents";
import { shortTime } from "./time";

/** A part of a sentence: plain text, a name that a person chose, or the mark of a key. */
export type Piece = string | { name: string } | { mark: string };

type Sentence = (entry: AuditEntryPartsFragment) => Piece[];

const withKey = (text: string, { keyMark }: AuditEntryPartsFragment): Piece[] =>
  keyMark === null ? [text] : [`${text} `, { mark: keyMark }];

/** The key that an action concerns, and when it ends. */
const withEnd = (text: string, entry: AuditEntryPartsFragment): Piece[] => [
  ...withKey(text, entry),
  entry.keyExpiresAt === null ? ": never" : `: ${shortTime(new Date(entry.keyExpiresAt))}`,
];

const codes = ({ permissions }: AuditEntryPartsFragment): string =>
  permissions === null || permissions.length === 0 ? "none" : permissions.join(", ");

const days = (count: number): string => (count === 1 ? "1 day" : `${count} days`);

const operator = ({ operatorName }: AuditEntryPartsFragment): Piece => ({
  name: operatorName ?? "an operator",
});

const tenant = ({ tenantName }: AuditEntryPartsFragment): Piece[] =>
  tenantName === null ? [] : [" ", { name: tenantName }];

const withToken = (text: string, { tokenName }: AuditEntryPartsFragment): Piece[] =>
  tokenName === null ? [text] : [`${text} `, { name: tokenName }];

const SENTENCES: Record<AuditAction, Sentence> = {
  SYSTEM_CREATED: () => ["Created the system"],
  SYSTEM_RENAMED: ({ previousName }) => ["Renamed the system from ", { name: previousName ?? "" }],
  SYSTEM_DELETED: () => ["Deleted the system and its key"],
  KEY_GENERATED: (entry) => withKey("Generated the key", entry),
  KEY_REVOKED: (entry) => {
    const { keyMark, previousKeyMark } = entry;
    return keyMark === null || previousKeyMark === null
      ? withKey("Revoked the key", entry)
      : ["Revoked the keys ", { mark: keyMark }, " and ", { mark: previousKeyMark }];
  },
  KEY_ROTATED: (entry) => {
    const { previousKeyMark } = entry;
    const rotated = withKey("Rotated the key: the new one is", entry);
    return previousKeyMark === null
      ? rotated
      : [...rotated, ", and the one before is ", { mark: previousKeyMark }];
  },
  ROTATION_ENDED: (entry) => withKey("Ended the overlap of the retiring key", entry),
  KEY_EXPIRY_CHANGED: (entry) => withEnd("Changed the end of the key", entry),
  KEY_EXPIRED: (entry) => withKey("Recorded the end of the key", entry),
  KEY_EXPIRY_WARNED: (entry) => withEnd("Warned of the end of the key", entry),
  SYSTEM_SUSPENDED: () => ["Suspended the system"],
  SYSTEM_RESUMED: () => ["Resumed the system"],
  SYSTEM_DESCRIBED: () => ["Changed the description of the system"],
  EXTERNAL_ID_CHANGED: () => ["Changed the external ID of the system"],
  EXPIRED_KEY_PRESENTED: (entry) => withKey("Presented the expired key", entry),
  SUSPENDED_KEY_PRESENTED: (entry) => withKey("Presented the key of the suspended system:", entry),
  TENANT_POLICY_CHANGED: ({ count }) => [
    `Changed the policy of the tenant; the longest life of keys is ${count === 0 ? "not limited" : days(count)}`,
  ],
  OPERATOR_ADDED: (entry) => [
    "Added the operator ",
    operator(entry),
    `, permission codes: ${codes(entry)}`,
  ],
  OPERATOR_REMOVED: (entry) => ["Removed the operator ", operator(entry)],
  PERMISSIONS_CHANGED: (entry) => [
    "Changed the permission codes of ",
    operator(entry),
    ` to: ${codes(entry)}`,
  ],
  PASSWORD_CHANGED: (entry) => ["Changed the password of ", operator(entry)],
  SIGNED_IN: () => ["Signed in"],
  SIGNED_OUT: () => ["Signed out"],
  SIGN_IN_REFUSED: () => ["Entered a wrong password"],
  PERMISSION_REFUSED: (entry) => [`Lacked the permission code ${codes(entry)}`],
  REVOKED_KEY_PRESENTED: (entry) => withKey("Presented the revoked key", entry),
  AUDIT_EXPORTED: () => ["Exported the audit log"],
  AUDIT_ARCHIVED: ({ count }) => [
    `Moved the oldest ${count === 1 ? "entry" : `${count} entries`} of the audit log to an archive`,
  ],
  KEYS_REDIGESTED: ({ count }) => [
    `Replaced the root secret of ${count === 1 ? "1 key" : `${count} keys`}`,
  ],
  STORE_RESTORED: () => ["Restored the store from a backup, and ended all sessions"],
  TENANT_CREATED: (entry) => ["Created the tenant", ...tenant(entry)],
  TENANT_RENAMED: (entry) => ["Renamed the tenant to", ...tenant(entry)],
  TENANT_SUSPENDED: () => ["Suspended the tenant"],
  TENANT_RESUMED: () => ["Resumed the tenant"],
  TENANT_DELETED: () => ["Deleted the tenant"],
  OPERATOR_PROMOTED: (entry) => [
    "Made ",
    operator(entry),
    ` an operator of the platform, permission codes: ${codes(entry)}`,
  ],
  OPERATOR_SUSPENDED: (entry) => ["Suspended the operator ", operator(entry)],
  OPERATOR_RESUMED: (entry) => ["Resumed the operator ", operator(entry)],
  SESSIONS_ENDED: (entry) => [
    entry.count === 1 ? "Ended a session of " : `Ended ${entry.count} sessions of `,
    operator(entry),
  ],
  SERVICE_TOKEN_CREATED: (entry) => [
    ...withToken("Created the service token", entry),
    `, permission codes: ${codes(entry)}`,
  ],
  SERVICE_TOKEN_ROTATED: (entry) => withToken("Rotated the service token", entry),
  SERVICE_TOKEN_REVOKED: (entry) => withToken("Revoked the service token", entry),
  VERIFIER_TOKEN_CREATED: (entry) => withToken("Created the verifier token", entry),
  VERIFIER_TOKEN_REVOKED: (entry) => withToken("Revoked the verifier token", entry),
};

/** The actions whose `count` is not the number of attempts. */
const COUNTING: readonly AuditAction[] = [
  "AUDIT_ARCHIVED",
  "KEYS_REDIGESTED",
  "TENANT_POLICY_CHANGED",
  "SESSIONS_ENDED",
];

/** Describes what an entry records and why, without naming its system. */
export function auditSentence(entry: AuditEntryPartsFragment): Piece[] {
  const sentence = [...SENTENCES[entry.action](entry)];
  if (entry.count > 1 && !COUNTING.includes(entry.action)) sentence.push(` (${entry.count} times)`);
  if (entry.reason !== null) sentence.push(" (reason: ", { name: entry.reason }, ")");
  return sentence;
}

/** The options of the action filter. */
export const ACTION_NAMES: Record<AuditAction, string> = {
  SYSTEM_CREATED: "System created",
  SYSTEM_RENAMED: "System renamed",
  SYSTEM_DELETED: "System deleted",
  KEY_GENERATED: "Key generated",
  KEY_REVOKED: "Key revoked",
  KEY_ROTATED: "Key rotated",
  ROTATION_ENDED: "Rotation ended early",
  KEY_EXPIRY_CHANGED: "End of a key changed",
  KEY_EXPIRED: "Key expired",
  KEY_EXPIRY_WARNED: "End of a key near",
  SYSTEM_SUSPENDED: "System suspended",
  SYSTEM_RESUMED: "System resumed",
  SYSTEM_DESCRIBED: "Description changed",
  EXTERNAL_ID_CHANGED: "External ID changed",
  REVOKED_KEY_PRESENTED: "Revoked key presented",
  EXPIRED_KEY_PRESENTED: "Expired key presented",
  SUSPENDED_KEY_PRESENTED: "Key of a suspended system presented",
  TENANT_POLICY_CHANGED: "Policy of the tenant changed",
  OPERATOR_ADDED: "Operator added",
  OPERATOR_REMOVED: "Operator removed",
  PERMISSIONS_CHANGED: "Permission codes changed",
  PASSWORD_CHANGED: "Password changed",
  SIGNED_IN: "Signed in",
  SIGNED_OUT: "Signed out",
  SIGN_IN_REFUSED: "Sign-in refused",
  PERMISSION_REFUSED: "Permission refused",
  AUDIT_EXPORTED: "Audit log exported",
  AUDIT_ARCHIVED: "Audit log archived",
  KEYS_REDIGESTED: "Keys under a new root secret",
  STORE_RESTORED: "Store restored",
  TENANT_CREATED: "Tenant created",
  TENANT_RENAMED: "Tenant renamed",
  TENANT_SUSPENDED: "Tenant suspended",
  TENANT_RESUMED: "Tenant resumed",
  TENANT_DELETED: "Tenant deleted",
  OPERATOR_PROMOTED: "Operator promoted",
  OPERATOR_SUSPENDED: "Operator suspended",
  OPERATOR_RESUMED: "Operator resumed",
  SESSIONS_ENDED: "Sessions ended",
  SERVICE_TOKEN_CREATED: "Service token created",
  SERVICE_TOKEN_ROTATED: "Service token rotated",
  SERVICE_TOKEN_REVOKED: "Service token revoked",
  VERIFIER_TOKEN_CREATED: "Verifier token created",
  VERIFIER_TOKEN_REVOKED: "Verifier token revoked",
};

export const isAuditAction = (text: string): text is AuditAction =>
  Object.hasOwn(ACTION_NAMES, text);
