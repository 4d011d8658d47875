import { type Client, useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Loading } from "../components/loading";
import { LatestChangeDocument, SystemChangedDocument } from "../gql/graphql";
import { useSession } from "../session/session-context";
import { drain, keepOpen } from "./keep-open";

/**
 * Keeps what its children show up to date. They wait until the position of the newest change is known: what they read
 * after that, plus the changes from there on, misses nothing.
 */
export function LiveChanges({ children }: { children: ComponentChildren }) {
  const client = useClient();
  const { liveness } = useSession();
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const following = new AbortController();
    let positions = 0;
    const onPosition = () => {
      setReady(true);
      positions += 1;
      // What was missed before a later position can only be read again.
      if (positions > 1)
        liveness.update((last) => ({ ...last, reconnections: last.reconnections + 1 }));
    };
    void followChanges(client, following.signal, onPosition);
    return () => following.abort();
  }, [client, liveness]);
  return ready ? children : <Loading />;
}

async function followChanges(client: Client, signal: AbortSignal, onPosition: () => void) {
  let after: string | undefined;
  await keepOpen(signal, async () => {
    if (after === undefined) {
      after = await latestChange(client);
      if (signal.aborted) return;
      onPosition();
    }
    if (after === undefined) return;
    const changes = client.subscription(SystemChangedDocument, { after });
    await drain(changes, signal, ({ data, error }) => {
      if (data) after = data.systemChanged.cursor;
      // The server may refuse to resume there: the next try starts from its newest change.
      else if (error && error.graphQLErrors.length > 0) after = undefined;
    });
  });
}

async function latestChange(client: Client): Promise<string | undefined> {
  const { data } = await client.query(LatestChangeDocument, {}, { requestPolicy: "network-only" });
  return data?.auditLog.nodes[0]?.cursor;
}
