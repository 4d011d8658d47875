import type { AnyVariables, RequestPolicy, TypedDocumentNode } from "@urql/core";
import { type UseQueryExecute, type UseQueryState, useQuery } from "@urql/preact";
import { useEffect, useRef } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useObserved } from "./observed";

/**
 * A query whose answer is kept right by a subscription. It is read again when changes were missed, and after a failure
 * once the socket is back; while the server cannot be reached, the last answer stays shown.
 */
export function useLiveQuery<Data, Variables extends AnyVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
  requestPolicy: RequestPolicy = "cache-and-network",
): [UseQueryState<Data, Variables>, UseQueryExecute] {
  const { liveness, readings } = useSession();
  const { reconnections } = useObserved(liveness);
  const reading = useObserved(readings);
  // Once changes were missed, what is cached may miss them too.
  const policy =
    requestPolicy === "cache-first" && reading > 0 ? "cache-and-network" : requestPolicy;
  const [state, execute] = useQuery<Data, Variables>({ query, variables, requestPolicy: policy });
  const failed = state.error !== undefined;
  const last = useRef({ reconnections, reading });
  useEffect(() => {
    const missed = reading !== last.current.reading;
    const back = reconnections !== last.current.reconnections;
    last.current = { reconnections, reading };
    if (missed || (back && failed)) execute({ requestPolicy: "network-only" });
  }, [reconnections, reading, failed, execute]);

  const answered = useRef<UseQueryState<Data, Variables> | undefined>(undefined);
  if (state.data) answered.current = state;
  const before = answered.current;
  const unreachable = state.error?.networkError !== undefined;
  const same = before?.operation?.key === state.operation?.key;
  return [before && unreachable && same ? before : state, execute];
}
