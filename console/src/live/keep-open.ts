import type { AnyVariables, OperationResult, OperationResultSource } from "@urql/core";
import { onEnd, pipe, subscribe } from "wonka";
import { backOff } from "./back-off";
import { pause } from "./wake";

/** An attempt that lasted this long was no failure to connect. */
const STEADY_MS = 10_000;

/** Opens a stream again whenever it ends, until the signal aborts; dropped sockets are the socket's own business. */
export async function keepOpen(signal: AbortSignal, open: () => Promise<void>): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const openedAt = performance.now();
    await open();
    if (performance.now() - openedAt >= STEADY_MS) failures = 0;
    await pause(backOff(failures), signal);
    failures += 1;
  }
}

/** Settles when the subscription ends or fails, or the signal aborts. */
export function drain<Data, Variables extends AnyVariables>(
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
