import { type Client, type ClientOptions, CloseCode, createClient } from "graphql-ws";
import { backoff } from "./backoff.js";
import { onWake, pause } from "./wake.js";

/** `ended` means that the server refused the credentials, or that the session has ended. */
export type SocketState = "live" | "interrupted" | "ended";

export interface SocketOptions
  extends Pick<ClientOptions, "url" | "connectionParams" | "webSocketImpl"> {
  onState?: (state: SocketState) => void;
  /** Resolves once the server responds. It delays each attempt to reconnect, after the backoff. */
  untilReachable?: () => Promise<void>;
}

export interface OpenSocket {
  client: Client;
  close(): void;
}

const PING_INTERVAL_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;

/**
 * Returns a client whose subscriptions share one WebSocket, opened with the first of them. It reconnects with backoff and
 * jitter for as long as it takes, unless the server closes the socket with 4403 or reports an error of the protocol.
 */
export function openSocket({ onState, untilReachable, ...options }: SocketOptions): OpenSocket {
  let state: SocketState | undefined;
  let lastMessageAt = Date.now();
  let skipNextBackoff = false;
  let pongTimeout: ReturnType<typeof setTimeout> | undefined;
  const closing = new AbortController();
  const enter = (next: SocketState) => {
    state = next;
    onState?.(next);
  };
  const client = createClient({
    ...options,
    retryAttempts: Number.POSITIVE_INFINITY,
    retryWait: async (retries) => {
      if (skipNextBackoff) {
        skipNextBackoff = false;
        return;
      }
      await pause(backoff(retries), closing.signal);
      if (!closing.signal.aborted) await untilReachable?.();
    },
    shouldRetry: (reason) => closeCode(reason) !== CloseCode.Forbidden,
    keepAlive: PING_INTERVAL_MS,
    on: {
      message: () => {
        lastMessageAt = Date.now();
      },
      connected: () => enter("live"),
      closed: (event) => {
        clearTimeout(pongTimeout);
        enter(closeCode(event) === CloseCode.Forbidden ? "ended" : "interrupted");
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
    if (state !== "live" || (!silent && navigator.onLine)) return;
    skipNextBackoff = navigator.onLine;
    client.terminate();
  });
  const close = () => {
    stopWaking();
    closing.abort();
    // Rejects if the connection that it waits for is not established, such as during an outage.
    Promise.resolve(client.dispose()).catch(() => undefined);
  };
  return { client, close };
}

/** Returns the code of a WebSocket's close event. */
export function closeCode(event: unknown): number | undefined {
  if (typeof event !== "object" || event === null || !("code" in event)) return undefined;
  return typeof event.code === "number" ? event.code : undefined;
}
