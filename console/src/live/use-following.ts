import type { AnyVariables, TypedDocumentNode } from "@urql/core";
import { useClient } from "@urql/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useSession } from "../session/session-context";
import { follow, type Position } from "./follow";

interface FollowingOptions<Data, Variables> {
  document: TypedDocumentNode<Data, Variables>;
  variables: Omit<Variables, "after">;
  /** Where to go on; from the newest change when absent. */
  position?: Position;
  /** False while the operator may not. */
  enabled: boolean;
  onData?: (data: Data) => void;
}

/**
 * Follows a subscription while the component is there. False until the position of the newest change is known: whatever
 * is read after that, plus the changes from there on, misses nothing.
 */
export function useFollowing<Data extends object, Variables extends AnyVariables>(
  options: FollowingOptions<Data, Variables>,
): boolean {
  const { document, variables, position, enabled } = options;
  const client = useClient();
  const { readAgain } = useSession();
  const [ready, setReady] = useState(position?.cursor !== undefined);
  // It outlives a loss of the permission code: what happens meanwhile is caught up with.
  const own = useRef<Position>({});
  const followed = position ?? own.current;
  const latest = useRef(options);
  latest.current = options;
  const given = JSON.stringify(variables);
  useEffect(() => {
    if (!enabled) return;
    const following = new AbortController();
    const fixed: Omit<Variables, "after"> = JSON.parse(given);
    void follow<Data, Variables>(
      client,
      {
        document,
        variables: (after) => ({ ...fixed, after }) as unknown as Variables,
        position: followed,
        onData: (data) => latest.current.onData?.(data),
        onReady: () => setReady(true),
        onGap: readAgain,
      },
      following.signal,
    );
    return () => following.abort();
  }, [client, document, given, followed, enabled, readAgain]);
  return ready || !enabled;
}
