import { type Client, CloseCode, createClient, type Sink, type SubscribePayload } from "graphql-ws";
import { backoff } from "../live/backoff";
import type { Observable } from "../live/observable";
import { untilReachable } from "../live/reachable";
import { onWake, pause } from "../live/wake";
import { graphqlWebSocketUrl } from "./urls";

/** `ended` means that the server closed the socket because no operator is signed in. */
export interface ConnectionStatus {
  state: "connecting" | "live" | "interrupted" | "ended";
  /** How many times the state returned to `live`. */
  reconnections: number;
}

export interface OpenSocket {
  client: Client;
  close(): void;
}

const PING_INTERVAL_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;

/** Opens the one WebSocket that all subscriptions share. The page's cookie authenticates it. */
export function openSocket(connection: Observable<ConnectionStatus>): OpenSocket {
  let connectedBefore = false;
  let lastMessageAt = Date.now();
  let skipNextBackoff = false;
  let pongTimeout: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url: graphqlWebSocketUrl(),
    retryAttempts: Number.POSITIVE_INFINITY,
    retryWait: async (retries) => {
      if (skipNextBackoff) {
        skipNextBackoff = false;
        return;
      }
      await pause(backoff(retries));
      await untilReachable();
    },
    shouldRetry: (reason) => closeCode(reason) !== CloseCode.Forbidden,
    keepAlive: PING_INTERVAL_MS,
    on: {
      message: () => {
        lastMessageAt = Date.now();
      },
      connected: () => {
        connection.update(({ reconnections }) => ({
          state: "live",
          reconnections: reconnections + (connectedBefore ? 1 : 0),
        }));
        connectedBefore = true;
      },
      closed: (event) => {
        clearTimeout(pongTimeout);
        const state = closeCode(event) === CloseCode.Forbidden ? "ended" : "interrupted";
        connection.update((last) => ({ ...last, state }));
      },
      // A connection that was lost silently emits no close event; only the missing pong reveals it.
      ping: (received) => {
        if (!received) pongTimeout = setTimeout(() => client.terminate(), PONG_TIMEOUT_MS);
      },
      pong: (received) => {
        if (received) clearTimeout(pongTimeout);
      },
    },
  });
  const stopWaking = onWake(() => {
    // After a sleep the connection may be lost, which the next ping would detect only seconds later.
    const silent = Date.now() - lastMessageAt > PING_INTERVAL_MS + PONG_TIMEOUT_MS;
    if (connection.value.state !== "live" || (!silent && navigator.onLine)) return;
    skipNextBackoff = navigator.onLine;
    client.terminate();
  });
  const close = () => {
    stopWaking();
    void client.dispose();
  };
  return { client, close };
}

function closeCode(event: unknown): unknown {
  return typeof event === "object" && event !== null && "code" in event ? event.code : undefined;
}

/**
 * Subscribes so that a reconnect resumes where the connection was lost. graphql-ws sends the same payload object again,
 * and its `after` variable is set to the cursor of each result that has one.
 */
export function subscribeWithResume(
  client: Pick<Client, "subscribe">,
  request: SubscribePayload,
  sink: Sink,
): () => void {
  const variables: Record<string, unknown> = { ...request.variables };
  return client.subscribe(
    { ...request, variables },
    {
      next(result) {
        const cursor = cursorIn(result.data);
        if (cursor !== undefined) variables.after = cursor;
        sink.next(result);
      },
      error: (reason) => sink.error(reason),
      complete: () => sink.complete(),
    },
  );
}

export function cursorIn(data: object | null | undefined): string | undefined {
  const [change] = Object.values(data ?? {});
  if (typeof change !== "object" || change === null || !("cursor" in change)) return undefined;
  return typeof change.cursor === "string" ? change.cursor : undefined;
}
