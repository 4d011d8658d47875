import type { GraphQLFormattedError } from "graphql";

interface Details {
  code?: string | undefined;
  extensions?: Readonly<Record<string, unknown>> | undefined;
  closeCode?: number | undefined;
  isRetryable: boolean;
  cause?: unknown;
}

/** An error of the API, or of reaching it. */
export class KeymarkError extends Error {
  override readonly name = "KeymarkError";
  /** The `extensions.code` of the first error. A server that is newer than this package may return other codes. */
  readonly code: string | undefined;
  /** The `extensions` of the first error, such as `permission` and `retryAfterSeconds`. */
  readonly extensions: Readonly<Record<string, unknown>>;
  /** The code with which the server closed the WebSocket. */
  readonly closeCode: number | undefined;
  /** Whether the same request may succeed later. */
  readonly isRetryable: boolean;

  constructor(message: string, { code, extensions, closeCode, isRetryable, cause }: Details) {
    super(message, { cause });
    this.code = code;
    this.extensions = extensions ?? {};
    this.closeCode = closeCode;
    this.isRetryable = isRetryable;
  }
}

const RETRYABLE: readonly unknown[] = ["UNAVAILABLE", "RATE_LIMITED", "INTERNAL", "CURSOR_INVALID"];

/** Returns the first of the errors in a response. */
export function errorOf([first]: readonly GraphQLFormattedError[]): KeymarkError {
  const { message = "The server returned no data.", extensions } = first ?? {};
  const code = typeof extensions?.code === "string" ? extensions.code : undefined;
  return new KeymarkError(message, { code, extensions, isRetryable: RETRYABLE.includes(code) });
}
