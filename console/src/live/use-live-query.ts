import type { AnyVariables, TypedDocumentNode } from "@urql/core";
import { type UseQueryExecute, type UseQueryState, useQuery } from "@urql/preact";
import { useEffect, useRef } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useObserved } from "./observed";

/** A query whose answer is read again when the socket is back, and stays shown while the server cannot be reached. */
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
  const read = useRef(reconnections);
  useEffect(() => {
    if (reconnections === read.current) return;
    read.current = reconnections;
    execute({ requestPolicy: "network-only" });
  }, [reconnections, execute]);

  const answered = useRef<UseQueryState<Data, Variables> | undefined>(undefined);
  if (state.data) answered.current = state;
  const last = answered.current;
  const unreachable = state.error?.networkError !== undefined;
  const same = last?.operation?.key === state.operation?.key;
  return [last && unreachable && same ? last : state, execute];
}
