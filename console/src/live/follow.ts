import type { AnyVariables, Client, TypedDocumentNode } from "@urql/core";
import { LatestEntryDocument } from "../gql/graphql";
import { cursorIn } from "../graph/socket";
import { failureOf } from "../text/failures";
import { drain, keepOpen } from "./keep-open";

/** The newest change that is known to have been seen. */
export interface Position {
  cursor?: string | undefined;
  /** The server did not take the cursor back: what came after it is not known. */
  lost?: boolean;
}

interface Following<Data, Variables> {
  document: TypedDocumentNode<Data, Variables>;
  /** What is followed, from the cursor on. */
  variables: (after: string) => Variables;
  position: Position;
  onData: (data: Data) => void;
  /** The position is known, or cannot be asked for now: what is read from here on is followed. */
  onReady: () => void;
  /** Changes before the position were missed: what they concern has to be read again. */
  onGap: () => void;
}

/** Follows a subscription until the signal aborts: each time it ends, it goes on after the last change that was seen. */
export async function follow<Data extends object, Variables extends AnyVariables>(
  client: Client,
  { document, variables, position, onData, onReady, onGap }: Following<Data, Variables>,
  signal: AbortSignal,
): Promise<void> {
  await keepOpen(signal, async () => {
    if (position.cursor === undefined) {
      position.cursor = await latestEntry(client);
      if (signal.aborted) return;
      // What is read without a position is read again once there is one.
      const missed = position.lost && position.cursor !== undefined;
      position.lost = position.cursor === undefined;
      if (missed) onGap();
    }
    onReady();
    if (position.cursor === undefined) return;
    const changes = client.subscription<Data, Variables>(document, variables(position.cursor));
    await drain(changes, signal, ({ data, error }) => {
      if (data) {
        position.cursor = cursorIn(data) ?? position.cursor;
        onData(data);
      }
      // The server may refuse to resume there: the next try starts from its newest entry.
      else if (error && failureOf(error).code === "BAD_USER_INPUT") {
        position.cursor = undefined;
        position.lost = true;
      }
    });
  });
}

async function latestEntry(client: Client): Promise<string | undefined> {
  const { data } = await client.query(LatestEntryDocument, {}, { requestPolicy: "network-only" });
  return data?.auditLog.nodes[0]?.cursor;
}
