import type { ErrorCode } from "@keymark/client/documents";
import type { CombinedError } from "@urql/core";
import { missingPermission } from "./permissions";

/** An error of a request, with a message for the operator. */
export interface Failure {
  /** Undefined when the server sent no response, or a code that is not in the schema. */
  code: ErrorCode | undefined;
  message: string;
}

interface Extensions {
  code?: unknown;
  permission?: unknown;
  retryAfterSeconds?: unknown;
}

type MessageFor = (serverMessage: string, extensions: Extensions) => string;

const asSent: MessageFor = (serverMessage) => serverMessage;

const MESSAGES: Record<ErrorCode, MessageFor> = {
  UNAUTHENTICATED: () => "Your session has ended. Sign in again.",
  FORBIDDEN: (serverMessage, { permission }) =>
    typeof permission === "string" ? missingPermission(permission) : serverMessage,
  NOT_FOUND: () => "This system no longer exists. Another operator may have deleted it.",
  INVALID_NAME: asSent,
  NAME_TAKEN: () => "Another system already has this name. Choose a different one.",
  KEY_ALREADY_GENERATED: () =>
    "An API key already exists. Rotate it, or revoke it to generate a new one.",
  KEY_NOT_GENERATED: () =>
    "This key no longer exists. It may have ended, or another operator may have revoked it.",
  ROTATION_IN_PROGRESS: () =>
    "The key before the current one is still accepted. End that rotation before you rotate again.",
  NOT_SUSPENDED: () => "This system is not suspended.",
  CONFLICT: () =>
    "Another operator changed this system in the meantime. Look at its current state, and try again.",
  LAST_ADMINISTRATOR: () =>
    "This would leave the tenant without anybody who can manage its operators. Give another operator the permission code operator_management:edit first.",
  TENANT_NOT_EMPTY: asSent,
  TENANT_SUSPENDED: asSent,
  INVALID_CREDENTIALS: () => "The username or password is incorrect.",
  INVALID_PASSWORD: asSent,
  PASSWORD_EXPIRED: asSent,
  RATE_LIMITED: (_, { retryAfterSeconds }) =>
    typeof retryAfterSeconds === "number"
      ? `Too many attempts. Try again in ${seconds(retryAfterSeconds)}.`
      : "Too many attempts. Try again later.",
  BAD_USER_INPUT: asSent,
  CURSOR_INVALID: () => "The audit log was restored from a backup, or archived. Reload the page.",
  QUERY_TOO_COMPLEX: asSent,
  UNAVAILABLE: () => "Keymark is unavailable right now. Try again in a moment.",
  INTERNAL: () =>
    "Keymark failed unexpectedly. Try again; if it keeps failing, its log has the cause.",
};

const UNREACHABLE = "Keymark cannot be reached. Check your connection and try again.";

/** The codes whose messages above are about systems. */
const ABOUT_SYSTEMS: readonly ErrorCode[] = [
  "NOT_FOUND",
  "NAME_TAKEN",
  "ROTATION_IN_PROGRESS",
  "NOT_SUSPENDED",
  "CONFLICT",
];

/** Describes a failed request about systems and their keys, or about something else. */
export function failureOf(error: CombinedError, about: "systems" | "other" = "systems"): Failure {
  const [first] = error.graphQLErrors;
  if (first === undefined) return { code: undefined, message: UNREACHABLE };
  const extensions: Extensions = first.extensions;
  const { code } = extensions;
  if (!isErrorCode(code)) return { code: undefined, message: first.message };
  const isForeign = about === "other" && ABOUT_SYSTEMS.includes(code);
  const messageFor = isForeign ? asSent : MESSAGES[code];
  return { code, message: messageFor(first.message, extensions) };
}

const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === "string" && Object.hasOwn(MESSAGES, code);

const seconds = (count: number): string => (count === 1 ? "1 second" : `${count} seconds`);
