import type { CombinedError } from "@urql/core";
import { failureOf } from "../text/failures";

interface FailedProps {
  error: CombinedError;
  onRetry: () => void;
}

/** Why it is not there, and a way on. */
export function Failed({ error, onRetry }: FailedProps) {
  return (
    <div class="failed" role="alert">
      <p>{failureOf(error).words}</p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}
