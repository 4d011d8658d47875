const CODES = {
  view: "api_key_management:view",
  create: "api_key_management:create",
  edit: "api_key_management:edit",
  delete: "api_key_management:delete",
} as const;

export type Action = keyof typeof CODES;

export const permissionCode = (action: Action): string => CODES[action];

export const missingPermission = (code: string): string =>
  `You need the permission code ${code}. Ask the person who manages your tenant's operators.`;
