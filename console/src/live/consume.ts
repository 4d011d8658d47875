import type { AnyVariables, OperationResult, OperationResultSource } from "@urql/core";
import { onEnd, pipe, subscribe } from "wonka";

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
