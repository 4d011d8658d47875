import { type Client, useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Loading } from "../components/loading";
import { LatestChangeDocument, SystemChangedDocument } from "../gql/graphql";
import { drain, keepOpen } from "./keep-open";

/**
 * Keeps what its children show up to date. They wait until the position of the newest change is known: what they read
 * after that, plus the changes from there on, misses nothing.
 */
export function LiveChanges({ children }: { children: ComponentChildren }) {
  const client = useClient();
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const following = new AbortController();
    void followChanges(client, following.signal, () => setReady(true));
    return () => following.abort();
  }, [client]);
  return ready ? children : <Loading />;
}

async function followChanges(client: Client, signal: AbortSignal, onReady: () => void) {
  let after: string | undefined;
  await keepOpen(signal, async () => {
    after ??= await latestChange(client);
    onReady();
    if (after === undefined || signal.aborted) return;
    const changes = client.subscription(SystemChangedDocument, { after });
    await drain(changes, signal, ({ data }) => {
      if (data) after = data.systemChanged.cursor;
    });
  });
}

async function latestChange(client: Client): Promise<string | undefined> {
  const { data } = await client.query(LatestChangeDocument, {}, { requestPolicy: "network-only" });
  return data?.auditLog.nodes[0]?.cursor;
}
