import { follow, type Position } from "@keymark/client";
import type { TypedDocumentNode } from "@urql/core";
import { useClient } from "@urql/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useSession } from "../session/session-context";
import { transportOf } from "./transport";

interface LiveSubscriptionOptions<Data, Variables> {
  document: TypedDocumentNode<Data, Variables>;
  variables: Omit<Variables, "after">;
  /** Where to resume. When absent, the subscription starts after the newest change. */
  position?: Position;
  /** False while the operator lacks the permission. */
  enabled: boolean;
  onData?: (data: Data) => void;
}

/**
 * Follows a subscription while the component is mounted. Returns true once queries may be sent: their results together
 * with the changes received from then on have no gap. A disabled subscription never delays queries.
 */
export function useLiveSubscription<Data extends object, Variables extends Record<string, unknown>>(
  options: LiveSubscriptionOptions<Data, Variables>,
): boolean {
  const { document, variables, position, enabled } = options;
  const client = useClient();
  const { refetchAll, restart } = useSession();
  const [ready, setReady] = useState(position?.cursor !== undefined);
  // Kept while disabled, so that the changes in between are received once the permission is back.
  const ownPosition = useRef<Position>({});
  const resumeFrom = position ?? ownPosition.current;
  const latest = useRef(options);
  latest.current = options;
  // The variables by value: a new object of equal variables must not resubscribe.
  const variablesJson = JSON.stringify(variables);
  useEffect(() => {
    if (!enabled) return;
    const controller = new AbortController();
    const fixed: Omit<Variables, "after"> = JSON.parse(variablesJson);
    void follow<Data, Variables>(
      transportOf(client),
      {
        document,
        variables: (after) => ({ ...fixed, after }) as unknown as Variables,
        position: resumeFrom,
        onData: (data) => latest.current.onData?.(data),
        onReady: () => setReady(true),
        onGap: refetchAll,
        onRestored: restart,
      },
      controller.signal,
    );
    return () => controller.abort();
  }, [client, document, variablesJson, resumeFrom, enabled, refetchAll, restart]);
  return ready || !enabled;
}
