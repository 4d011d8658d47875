import type { AnyVariables, OperationResult, OperationResultSource } from "@urql/core";
import { onEnd, pipe, subscribe } from "wonka";
import { backoff } from "./backoff";
import { pause } from "./wake";

/** A stream that stayed open this long resets the backoff. */
const STABLE_AFTER_MS = 10_000;

/** Reopens a stream with backoff whenever it ends, until the signal aborts. The socket reconnects by itself. */
export async function keepOpen(signal: AbortSignal, open: () => Promise<void>): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const openedAt = performance.now();
    await open();
    if (performance.now() - openedAt >= STABLE_AFTER_MS) failures = 0;
    await pause(backoff(failures), signal);
    failures += 1;
  }
}

/** Resolves when the subscription completes or fails, or when the signal aborts. */
export function consume<Data, Variables extends AnyVariables>(
  source: OperationResultSource<OperationResult<Data, Variables>>,
  signal: AbortSignal,
  onResult: (result: OperationResult<Data, Variables>) => void,
): Promise<void> {
  return new Promise((resolve) => {
    const stop = () => {
      subscription.unsubscribe();
      signal.removeEventListener("abort", stop);
      resolve();
    };
    signal.addEventListener("abort", stop);
    const subscription = pipe(
      source,
      onEnd(resolve),
      subscribe((result) => {
        onResult(result);
        if (result.error !== undefined) queueMicrotask(stop);
      }),
    );
  });
}
