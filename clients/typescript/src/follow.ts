import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { keepOpen } from "./keep-open.js";
import { cursorIn } from "./resume.js";

/** How far a subscription has been received. `follow` updates it. */
export interface Position {
  /** The cursor of the newest change received. */
  cursor?: string | undefined;
  /** True while the position is unknown, so that changes may be missed until there is a new cursor. */
  lost?: boolean;
}

/** One result of a subscription: data, the `extensions.code` of an error, or both. */
export interface SubscriptionResult<Data> {
  data?: Data | null | undefined;
  code?: string | undefined;
}

/** How `follow` sends its requests. An error that it throws ends `follow`, unless it is worth a retry. */
export interface Transport {
  /** Returns the cursor of the newest change; undefined if it cannot be fetched for now. */
  latestCursor(): Promise<string | undefined>;
  /** Resolves when the subscription ends, or when the signal aborts. */
  subscribe<Data extends object, Variables extends Record<string, unknown>>(
    document: TypedDocumentNode<Data, Variables>,
    variables: Variables,
    signal: AbortSignal,
    onResult: (result: SubscriptionResult<Data>) => void,
  ): Promise<void>;
  isRetryable?(error: unknown): boolean;
}

export interface FollowOptions<Data, Variables> {
  document: TypedDocumentNode<Data, Variables>;
  /** Returns the variables that subscribe to the changes after a cursor. */
  variables: (after: string) => Variables;
  position: Position;
  onData: (data: Data) => void;
  /**
   * Called once queries may be sent: every change after their responses will be received. Also called when the position
   * cannot be fetched for now, so that the page loads nevertheless; `onGap` follows once it can. If it returns a promise,
   * `follow` subscribes when it resolves.
   */
  onReady: () => void | Promise<void>;
  /** Called when changes were missed: queries whose results they affect have to be refetched. */
  onGap: () => void;
  /**
   * Called when the server's store was restored from a backup that lacks changes which were received: whatever is cached
   * may be of changes that never happened.
   */
  onRestored: () => void;
}

/** Follows a subscription until the signal aborts. Whenever it ends, resubscribes after the last change received. */
export async function follow<Data extends object, Variables extends Record<string, unknown>>(
  transport: Transport,
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
  const open = async () => {
    if (position.cursor === undefined) {
      position.cursor = await transport.latestCursor();
      if (signal.aborted) return;
      const recovered = position.lost && position.cursor !== undefined;
      position.lost = position.cursor === undefined;
      if (recovered) onGap();
    }
    await onReady();
    if (position.cursor === undefined || signal.aborted) return;
    const after = variables(position.cursor);
    await transport.subscribe(document, after, signal, ({ data, code }) => {
      if (data) {
        position.cursor = cursorIn(data) ?? position.cursor;
        onData(data);
      }
      if (code !== "CURSOR_INVALID" && code !== "BAD_USER_INPUT") return;
      // The next attempt starts from the newest entry.
      position.cursor = undefined;
      position.lost = true;
      if (code === "CURSOR_INVALID") onRestored();
    });
  };
  await keepOpen(signal, open, (error) => transport.isRetryable?.(error) ?? false);
}
