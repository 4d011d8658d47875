/** What an operator or a service token can be allowed to do, in the order in which the codes are shown. */
const PERMISSIONS = {
  view: {
    code: "api_key_management:view",
    allows: "See systems, the marks of their keys, and the audit log.",
  },
  create: {
    code: "api_key_management:create",
    allows: "Create systems and generate their keys; together with edit, rotate keys.",
  },
  edit: {
    code: "api_key_management:edit",
    allows: "Rename, describe and suspend systems, and revoke their keys.",
  },
  delete: {
    code: "api_key_management:delete",
    allows: "Delete systems together with their keys.",
  },
  "view-operators": {
    code: "operator_management:view",
    allows: "See operators, their sessions, service tokens and verifier tokens.",
  },
  "edit-operators": {
    code: "operator_management:edit",
    allows:
      "Add, change, suspend and remove operators, end their sessions, and create and revoke tokens.",
  },
  "view-tenants": {
    code: "tenant_management:view",
    allows: "See all tenants.",
  },
  "edit-tenants": {
    code: "tenant_management:edit",
    allows: "Create, rename, suspend and delete tenants, and change their policies.",
  },
} as const;

export type Action = keyof typeof PERMISSIONS;

export interface PermissionCode {
  code: string;
  /** A sentence that says what the code allows. */
  allows: string;
}

/** The codes that only operators and service tokens of the platform can hold. */
const OF_PLATFORM: readonly string[] = [
  PERMISSIONS["view-tenants"].code,
  PERMISSIONS["edit-tenants"].code,
];

export const permissionCode = (action: Action): string => PERMISSIONS[action].code;

/** Returns the codes that can be held by an operator or a service token of a tenant, or of the platform. */
export const permissionCodes = (isPlatform: boolean): readonly PermissionCode[] =>
  Object.values(PERMISSIONS).filter(({ code }) => isPlatform || !OF_PLATFORM.includes(code));

/** Returns what a code allows; nothing for one that this console does not know. */
export const allowedBy = (code: string): string =>
  Object.values(PERMISSIONS).find((permission) => permission.code === code)?.allows ?? "";

export const missingPermission = (code: string): string =>
  `You need the permission code ${code}. Ask the person who manages your tenant's operators.`;

const GROUPS: Record<string, string> = {
  api_key_management: "API keys",
  operator_management: "Operators",
  tenant_management: "Tenants",
};

/** Describes codes in a few words, such as "API keys: view, edit". */
export function codesText(codes: readonly string[]): string {
  const groups = new Map<string, string[]>();
  for (const code of codes) {
    const [group = "", action = ""] = code.split(":");
    groups.set(group, [...(groups.get(group) ?? []), action]);
  }
  if (groups.size === 0) return "None";
  return Array.from(
    groups,
    ([group, actions]) => `${GROUPS[group] ?? group}: ${actions.join(", ")}`,
  ).join("; ");
}
