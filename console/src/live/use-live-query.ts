import type { ErrorCode } from "@keymark/client/documents";
import type { AnyVariables, RequestPolicy, TypedDocumentNode } from "@urql/core";
import { type UseQueryExecute, type UseQueryState, useQuery } from "@urql/preact";
import { useEffect, useRef } from "preact/hooks";
import { useSession } from "../session/session-context";
import { failureOf } from "../text/failures";
import { useObservable } from "./observable";

/** The codes of failures that pass: what was loaded before is still as good as anything. */
const TEMPORARY: readonly (ErrorCode | undefined)[] = ["UNAVAILABLE", "INTERNAL", "RATE_LIMITED"];
const RETRY_MS = 5_000;

/**
 * Runs a query whose result a subscription keeps up to date. Refetches when changes were missed, and after a failure
 * once the socket has reconnected. While the server is unreachable or fails, keeps returning the last result. A query
 * that is `cache-only` is never sent: the operator may lack the permission, and the audit log has every refusal.
 */
export function useLiveQuery<Data, Variables extends AnyVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
  requestPolicy: RequestPolicy = "cache-and-network",
): [UseQueryState<Data, Variables>, UseQueryExecute] {
  const { connection, refetchCount } = useSession();
  const { reconnections } = useObservable(connection);
  const refetches = useObservable(refetchCount);
  // After a gap the cache may lack the missed changes as well.
  const policy =
    requestPolicy === "cache-first" && refetches > 0 ? "cache-and-network" : requestPolicy;
  const [state, execute] = useQuery<Data, Variables>({ query, variables, requestPolicy: policy });
  const mayFetch = requestPolicy !== "cache-only";
  const { error } = state;
  const failed = error !== undefined;
  const last = useRef({ reconnections, refetches });
  useEffect(() => {
    const missedChanges = refetches !== last.current.refetches;
    const reconnected = reconnections !== last.current.reconnections;
    last.current = { reconnections, refetches };
    if (mayFetch && (missedChanges || (reconnected && failed))) {
      execute({ requestPolicy: "network-only" });
    }
  }, [reconnections, refetches, failed, mayFetch, execute]);

  const lastSuccess = useRef<UseQueryState<Data, Variables> | undefined>(undefined);
  if (state.data) lastSuccess.current = state;
  const previous = lastSuccess.current;
  const unreachable = error?.networkError !== undefined;
  const failsForNow = error && !unreachable && TEMPORARY.includes(failureOf(error).code);
  const isSameQuery = previous?.operation?.key === state.operation?.key;
  const kept = previous && isSameQuery && (unreachable || failsForNow) ? previous : undefined;
  // No reconnection follows, which would refetch.
  const retried = kept && failsForNow && mayFetch ? error : undefined;
  useEffect(() => {
    if (retried === undefined) return;
    const timer = setTimeout(() => execute({ requestPolicy: "network-only" }), RETRY_MS);
    return () => clearTimeout(timer);
  }, [retried, execute]);
  return [kept ?? state, execute];
}
