import { type Client, CloseCode, createClient, type Sink, type SubscribePayload } from "graphql-ws";
import { backOff } from "../live/back-off";
import type { Observed } from "../live/observed";
import { onWake, pause } from "../live/wake";
import { graphqlWebSocketUrl } from "./urls";

/** `ended` when the server says that nobody is signed in; `reconnections` counts the times that `live` came back. */
export interface Liveness {
  state: "connecting" | "live" | "interrupted" | "ended";
  reconnections: number;
}

export interface OpenSocket {
  client: Client;
  close(): void;
}

const PING_EVERY_MS = 10_000;
const PONG_WITHIN_MS = 5_000;

/** The one WebSocket behind all subscriptions. The cookie of the page signs it in. */
export function openSocket(liveness: Observed<Liveness>): OpenSocket {
  let connectedBefore = false;
  let heardAt = Date.now();
  let awakened = false;
  let overdue: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url: graphqlWebSocketUrl(),
    retryAttempts: Number.POSITIVE_INFINITY,
    retryWait: async (retries) => {
      if (!awakened) await pause(backOff(retries));
      awakened = false;
    },
    shouldRetry: (reason) => closeCode(reason) !== CloseCode.Forbidden,
    keepAlive: PING_EVERY_MS,
    on: {
      message: () => {
        heardAt = Date.now();
      },
      connected: () => {
        liveness.update(({ reconnections }) => ({
          state: "live",
          reconnections: reconnections + (connectedBefore ? 1 : 0),
        }));
        connectedBefore = true;
      },
      closed: (event) => {
        clearTimeout(overdue);
        const state = closeCode(event) === CloseCode.Forbidden ? "ended" : "interrupted";
        liveness.update((last) => ({ ...last, state }));
      },
      // A link that died in silence gives no close event: a missing pong does.
      ping: (received) => {
        if (!received) overdue = setTimeout(() => client.terminate(), PONG_WITHIN_MS);
      },
      pong: (received) => {
        if (received) clearTimeout(overdue);
      },
    },
  });
  const stopWaking = onWake(() => {
    // After a sleep the link may be dead without knowing; pings would take their time to find out.
    const silent = Date.now() - heardAt > PING_EVERY_MS + PONG_WITHIN_MS;
    if (liveness.value.state !== "live" || (!silent && navigator.onLine)) return;
    awakened = navigator.onLine;
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
 * Subscribes so that a socket that reconnects resumes: graphql-ws sends the payload again as it is by then, and the
 * payload's `after` has moved on with each result that carries a cursor.
 */
export function subscribeResuming(
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
