import type { AuditAction, AuditEntryPartsFragment } from "../gql/graphql";

/** A part of a sentence: plain text, a name that a person chose, or the mark of a key. */
export type Piece = string | { name: string } | { mark: string };

type Sentence = (entry: AuditEntryPartsFragment) => Piece[];

const withKey = (text: string, { keyMark }: AuditEntryPartsFragment): Piece[] =>
  keyMark === null ? [text] : [`${text} `, { mark: keyMark }];

const codes = ({ permissions }: AuditEntryPartsFragment): string =>
  permissions === null || permissions.length === 0 ? "none" : permissions.join(", ");

const operator = ({ operatorName }: AuditEntryPartsFragment): Piece => ({
  name: operatorName ?? "an operator",
});

const SENTENCES: Record<AuditAction, Sentence> = {
  SYSTEM_CREATED: () => ["Created the system"],
  SYSTEM_RENAMED: ({ previousName }) => ["Renamed the system from ", { name: previousName ?? "" }],
  SYSTEM_DELETED: () => ["Deleted the system and its key"],
  KEY_GENERATED: (entry) => withKey("Generated the key", entry),
  KEY_REVOKED: (entry) => withKey("Revoked the key", entry),
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
  KEYS_REDIGESTED: ({ count }) => [
    `Replaced the root secret of ${count === 1 ? "1 key" : `${count} keys`}`,
  ],
  STORE_RESTORED: () => ["Restored the store from a backup, and ended all sessions"],
};

/** Describes what an entry records, without naming its system. */
export function auditSentence(entry: AuditEntryPartsFragment): Piece[] {
  const sentence = SENTENCES[entry.action](entry);
  const repeats = entry.action !== "KEYS_REDIGESTED" && entry.count > 1;
  return repeats ? [...sentence, ` (${entry.count} times)`] : sentence;
}

/** The options of the action filter. */
export const ACTION_NAMES: Record<AuditAction, string> = {
  SYSTEM_CREATED: "System created",
  SYSTEM_RENAMED: "System renamed",
  SYSTEM_DELETED: "System deleted",
  KEY_GENERATED: "Key generated",
  KEY_REVOKED: "Key revoked",
  REVOKED_KEY_PRESENTED: "Revoked key presented",
  OPERATOR_ADDED: "Operator added",
  OPERATOR_REMOVED: "Operator removed",
  PERMISSIONS_CHANGED: "Permission codes changed",
  PASSWORD_CHANGED: "Password changed",
  SIGNED_IN: "Signed in",
  SIGNED_OUT: "Signed out",
  SIGN_IN_REFUSED: "Sign-in refused",
  PERMISSION_REFUSED: "Permission refused",
  AUDIT_EXPORTED: "Audit log exported",
  KEYS_REDIGESTED: "Keys under a new root secret",
  STORE_RESTORED: "Store restored",
};

export const isAuditAction = (text: string): text is AuditAction =>
  Object.hasOwn(ACTION_NAMES, text);
