import { LatestEntryDocument } from "@keymark/client/documents";
import type { AnyVariables, Client, TypedDocumentNode } from "@urql/core";
import { cursorIn } from "../graph/socket";
import { failureOf } from "../text/failures";
import { consume, keepOpen } from "./keep-open";

/** How far a subscription has been received. `follow` updates it. */
export interface Position {
  /** The cursor of the newest change received. */
  cursor?: string | undefined;
  /** True while the position is unknown, so that changes may be missed until there is a new cursor. */
  lost?: boolean;
}

interface FollowOptions<Data, Variables> {
  document: TypedDocumentNode<Data, Variables>;
  /** Returns the variables that subscribe to the changes after a cursor. */
  variables: (after: string) => Variables;
  position: Position;
  onData: (data: Data) => void;
  /**
   * Called once queries may be sent: every change after their responses will be received. Also called when the position
   * cannot be fetched for now, so that the page loads nevertheless; `onGap` follows once it can.
   */
  onReady: () => void;
  /** Called when changes were missed: queries whose results they affect have to be refetched. */
  onGap: () => void;
  /**
   * Called when the server's store was restored from a backup that lacks changes which were received: whatever is cached
   * may be of changes that never happened.
   */
  onRestored: () => void;
}

/** Follows a subscription until the signal aborts. Whenever it ends, resubscribes after the last change received. */
export async function follow<Data extends object, Variables extends AnyVariables>(
  client: Client,
  {
    document,
    variables,
    position,
    onData,
    onReady,
    onGap,
    onRestored,
  }: FollowOptions<Data, Variables>,
  signal: AbortSignal,
): Promise<void> {
  await keepOpen(signal, async () => {
    if (position.cursor === undefined) {
      position.cursor = await latestEntry(client);
      if (signal.aborted) return;
      const recovered = position.lost && position.cursor !== undefined;
      position.lost = position.cursor === undefined;
      if (recovered) onGap();
    }
    onReady();
    if (position.cursor === undefined) return;
    const changes = client.subscription<Data, Variables>(document, variables(position.cursor));
    await consume(changes, signal, ({ data, error }) => {
      if (data) {
        position.cursor = cursorIn(data) ?? position.cursor;
        onData(data);
      }
      if (error === undefined) return;
      const { code } = failureOf(error);
      if (code !== "CURSOR_INVALID" && code !== "BAD_USER_INPUT") return;
      // The next attempt starts from the newest entry.
      position.cursor = undefined;
      position.lost = true;
      if (code === "CURSOR_INVALID") onRestored();
    });
  });
}

async function latestEntry(client: Client): Promise<string | undefined> {
  const { data } = await client.query(LatestEntryDocument, {}, { requestPolicy: "network-only" });
  return data?.auditLog.nodes[0]?.cursor;
}
