import type { AnyVariables, TypedDocumentNode } from "@urql/core";
import { type UseQueryExecute, type UseQueryState, useQuery } from "@urql/preact";
import { useEffect, useRef } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useObserved } from "./observed";

/** A query whose answer is read again when the socket is back. */
export function useLiveQuery<Data, Variables extends AnyVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
): [UseQueryState<Data, Variables>, UseQueryExecute] {
  const { reconnections } = useObserved(useSession().liveness);
  const [state, execute] = useQuery<Data, Variables>({
    query,
    variables,
    requestPolicy: "cache-and-network",
  });
  const seen = useRef(reconnections);
  useEffect(() => {
    if (reconnections === seen.current) return;
    seen.current = reconnections;
    execute({ requestPolicy: "network-only" });
  }, [reconnections, execute]);
  return [state, execute];
}
