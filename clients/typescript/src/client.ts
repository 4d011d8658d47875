import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { type GraphQLFormattedError, print } from "graphql";
import type { Client, SubscribePayload } from "graphql-ws";
import { LatestCursorDocument } from "./documents.js";
import { errorOf, KeymarkError } from "./error.js";
import { follow, type Position, type SubscriptionResult, type Transport } from "./follow.js";
import { subscribeWithResume } from "./resume.js";
import { closeCode, type OpenSocket, openSocket, type SocketState } from "./socket.js";

export interface KeymarkOptions {
  /** The address of the API: `https://keys.example.com/graphql`. */
  url: string;
  /**
   * The bearer token. A function is called for each request and each connection. Absent on pages of Keymark's own origin,
   * which the cookie authenticates.
   */
  token?: string | (() => string | Promise<string>);
  /** The id of the tenant to act in, for operators and service tokens of the platform. Absent: their own. */
  tenant?: string;
  /** The WebSocket of the package `ws`, for Node.js before 22. */
  webSocketImpl?: unknown;
  onState?: (state: SocketState) => void;
}

export interface KeymarkFollowOptions<Data, Variables> {
  /** The subscription's variables, without `after`. */
  variables?: Omit<Variables, "after">;
  /**
   * Where to resume, as an earlier call left it. When absent, or without a cursor, the subscription starts after the
   * newest change.
   */
  position?: Position;
  /**
   * Loads what the subscription keeps up to date. Called before the first change, unless there is a position to resume
   * from, and whenever changes were lost because the store was restored from a backup (`CURSOR_INVALID`). Changes are
   * received once it has resolved; they may already be in what it loaded.
   */
  onLoad?: () => void | Promise<void>;
  /** Called for each change, once and in order. */
  onData: (data: Data) => void;
  /** Aborting it ends the subscription. */
  signal?: AbortSignal;
}

export interface Keymark {
  /** Sends a query or a mutation. Rejects with a `KeymarkError`. */
  request<Data, Variables extends Record<string, unknown>>(
    document: TypedDocumentNode<Data, Variables>,
    ...[variables]: VariablesOf<Variables>
  ): Promise<Data>;
  /**
   * Follows a subscription whose results have a `cursor`, through lost connections and restarts of the server, without
   * missing or repeating a change. Resolves when the signal aborts. Rejects with what `onLoad` or `onData` throws, and with
   * a `KeymarkError` when a retry is of no use: the session has ended (close code 4403), or a permission is missing.
   */
  follow<Data extends object, Variables extends Record<string, unknown>>(
    document: TypedDocumentNode<Data, Variables>,
    options: KeymarkFollowOptions<Data, Variables>,
  ): Promise<void>;
  /** Ends all subscriptions, and closes the WebSocket. */
  close(): void;
}

/** The variables may be left out when all of them are optional. */
type VariablesOf<Variables> =
  Record<string, never> extends Variables ? [variables?: Variables] : [variables: Variables];

/** Returns a client of the API. Requests are sent over HTTP, and all subscriptions share one WebSocket. */
export function connect(options: KeymarkOptions): Keymark {
  const { url, token, tenant, webSocketImpl, onState } = options;
  const authorization = async (): Promise<Record<string, string>> =>
    token === undefined
      ? {}
      : { authorization: `Bearer ${typeof token === "function" ? await token() : token}` };
  let socket: OpenSocket | undefined;
  const opened = () => {
    socket ??= openSocket({
      url: url.replace(/^http/, "ws"),
      connectionParams: async () => ({
        ...(await authorization()),
        ...(tenant !== undefined && { tenant }),
      }),
      webSocketImpl,
      ...(onState && { onState }),
    });
    return socket;
  };
  const closing = new AbortController();

  const request: Keymark["request"] = async (document, ...[variables]) => {
    const headers = {
      accept: "application/graphql-response+json",
      "content-type": "application/json",
      ...(tenant !== undefined && { "x-keymark-tenant": tenant }),
      ...(await authorization()),
    };
    const body = JSON.stringify({ query: print(document), variables });
    return read(await send(url, { method: "POST", headers, body }));
  };

  const transport: Transport = {
    async latestCursor() {
      const { auditCursor } = await request(LatestCursorDocument);
      return auditCursor;
    },
    subscribe: (document, variables, signal, onResult) =>
      subscribe(opened().client, { query: print(document), variables }, signal, onResult),
    isRetryable: (error) => error instanceof KeymarkError && error.isRetryable,
  };

  return {
    request,

    async follow(document, { variables, position = {}, onLoad, onData, signal }) {
      let isLoaded = position.cursor !== undefined;
      const unload = () => {
        isLoaded = false;
      };
      await follow(
        transport,
        {
          document,
          variables: (after) => ({ ...variables, after }) as never,
          position,
          onData,
          async onReady() {
            if (isLoaded || position.cursor === undefined) return;
            await onLoad?.();
            isLoaded = true;
          },
          onGap: unload,
          onRestored: unload,
        },
        signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]),
      );
    },

    close() {
      closing.abort();
      socket?.close();
    },
  };
}

/** Resolves when the subscription completes or the signal aborts. Rejects with its error, and with what `onResult` throws. */
function subscribe<Data extends object>(
  client: Client,
  request: SubscribePayload,
  signal: AbortSignal,
  onResult: (result: SubscriptionResult<Data>) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      signal.removeEventListener("abort", stop);
      unsubscribe();
      settle();
    };
    const stop = () => end(resolve);
    const fail = (error: unknown) => end(() => reject(error));
    const receive = (result: SubscriptionResult<Data>) => {
      try {
        onResult(result);
      } catch (error) {
        fail(error);
      }
    };
    const refuse = (errors: readonly GraphQLFormattedError[]) => {
      const error = errorOf(errors);
      receive({ code: error.code });
      fail(error);
    };
    signal.addEventListener("abort", stop);
    const unsubscribe = subscribeWithResume(client, request, {
      next({ data, errors }) {
        if (data) receive({ data: data as Data });
        if (errors) refuse(errors);
      },
      error: (reason) => (Array.isArray(reason) ? refuse(reason) : fail(closed(reason))),
      complete: stop,
    });
  });
}

async function send(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    throw new KeymarkError(`${url} cannot be reached.`, { isRetryable: true, cause });
  }
}

async function read<Data>(response: Response): Promise<Data> {
  let result: { data?: Data | null; errors?: readonly GraphQLFormattedError[] };
  try {
    result = await response.json();
  } catch (cause) {
    const message = `${response.url} responded with ${response.status} and no JSON.`;
    throw new KeymarkError(message, { isRetryable: response.status >= 500, cause });
  }
  if (!result.data || result.errors) throw errorOf(result.errors ?? []);
  return result.data;
}

function closed(event: unknown): KeymarkError {
  const code = closeCode(event);
  const reason =
    typeof event === "object" && event !== null && "reason" in event ? event.reason : undefined;
  const message = `The server closed the WebSocket with ${code}: ${reason || "no reason"}`;
  return new KeymarkError(message, { closeCode: code, isRetryable: false, cause: event });
}
