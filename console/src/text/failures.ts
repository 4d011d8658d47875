import type { CombinedError } from "@urql/core";
import type { ErrorCode } from "../gql/graphql";
import { missingPermission } from "./permissions";

/** An answer that was not the one hoped for, in words for the operator. */
export interface Failure {
  /** Undefined when no answer came at all. */
  code: ErrorCode | undefined;
  words: string;
}

interface Extensions {
  code?: unknown;
  permission?: unknown;
  retryAfterSeconds?: unknown;
}

type Words = (message: string, extensions: Extensions) => string;

const asServerSaid: Words = (message) => message;

const WORDS: Record<ErrorCode, Words> = {
  UNAUTHENTICATED: () => "Your session has ended. Sign in again.",
  FORBIDDEN: (message, { permission }) =>
    typeof permission === "string" ? missingPermission(permission) : message,
  NOT_FOUND: () => "This system does not exist any more.",
  INVALID_NAME: asServerSaid,
  NAME_TAKEN: () => "Another system already has this name.",
  KEY_ALREADY_GENERATED: () => "This system has a key already. Revoke it to generate another.",
  KEY_NOT_GENERATED: () => "This system has no key.",
  CONFLICT: () => "Somebody else has changed this system meanwhile.",
  INVALID_CREDENTIALS: () => "The username or the password is wrong.",
  INVALID_PASSWORD: asServerSaid,
  RATE_LIMITED: (_, { retryAfterSeconds }) =>
    typeof retryAfterSeconds === "number"
      ? `Too many attempts. Try again in ${seconds(retryAfterSeconds)}.`
      : "Too many attempts. Try again later.",
  BAD_USER_INPUT: asServerSaid,
  QUERY_TOO_COMPLEX: asServerSaid,
  UNAVAILABLE: () => "Keymark cannot answer right now. Try again in a moment.",
  INTERNAL: () => "Something went wrong in Keymark. Its log says what.",
};

const UNREACHABLE = "Keymark cannot be reached. Check your connection and try again.";

export function failureOf(error: CombinedError): Failure {
  const [first] = error.graphQLErrors;
  if (first === undefined) return { code: undefined, words: UNREACHABLE };
  const extensions: Extensions = first.extensions;
  const { code } = extensions;
  return isErrorCode(code)
    ? { code, words: WORDS[code](first.message, extensions) }
    : { code: undefined, words: first.message };
}

const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === "string" && Object.hasOwn(WORDS, code);

const seconds = (count: number): string => (count === 1 ? "1 second" : `${count} seconds`);
