import type { CombinedError } from "@urql/core";
import { failureOf } from "../text/failures";

interface LoadErrorProps {
  error: CombinedError;
  onRetry: () => void;
}

/** Takes the place of content that failed to load, and offers a retry. */
export function LoadError({ error, onRetry }: LoadErrorProps) {
  return (
    <div class="failed" role="alert">
      <p>{failureOf(error).message}</p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}
