import { backoff } from "./backoff.js";
import { pause } from "./wake.js";

/** A stream that stayed open this long resets the backoff. */
const STABLE_AFTER_MS = 10_000;

/**
 * Reopens a stream with backoff whenever it ends or fails with an error that is worth a retry, until the signal aborts.
 * Rejects with any other error.
 */
export async function keepOpen(
  signal: AbortSignal,
  open: () => Promise<void>,
  isRetryable: (error: unknown) => boolean = () => false,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const openedAt = performance.now();
    try {
      await open();
    } catch (error) {
      if (signal.aborted) return;
      if (!isRetryable(error)) throw error;
    }
    if (performance.now() - openedAt >= STABLE_AFTER_MS) failures = 0;
    await pause(backoff(failures), signal);
    failures += 1;
  }
}
