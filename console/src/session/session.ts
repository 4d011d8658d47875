import { Client, fetchExchange, mapExchange, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { cacheOptions } from "../graph/cache";
import { keyTakenOutExchange } from "../graph/generate-key";
import { inOrderExchange } from "../graph/in-order";
import { type Liveness, openSocket, subscribeResuming } from "../graph/socket";
import { graphqlUrl } from "../graph/urls";
import type { Position } from "../live/follow";
import { Observed } from "../live/observed";
import { failureOf } from "../text/failures";

/** What is held for one operator, dropped as a whole when another signs in. */
export interface Session {
  client: Client;
  liveness: Observed<Liveness>;
  /** Up to where the cached lists of systems are right. */
  systemsPosition: Position;
  /** Systems that this operator has created here: they may be seen without the code to see all. */
  created: Set<string>;
  /** The pages of lists that were scrolled to, by the cursor before them: they are there when one comes back. */
  openedPages: Set<string>;
  /** How often everything had to be read again. */
  readings: Observed<number>;
  readAgain(): void;
  /** While the password changes, the old session's end is no reason to ask for signing in. */
  renewing: Observed<boolean>;
  close(): void;
}

export function openSession(): Session {
  const liveness = new Observed<Liveness>({ state: "connecting", reconnections: 0 });
  const readings = new Observed(0);
  const socket = openSocket(liveness);
  const client = new Client({
    url: graphqlUrl(),
    preferGetMethod: false,
    fetchOptions: { credentials: "same-origin" },
    exchanges: [
      mapExchange({
        onError(error) {
          if (failureOf(error).code !== "UNAUTHENTICATED") return;
          liveness.update((last) => ({ ...last, state: "ended" }));
        },
      }),
      cacheExchange(cacheOptions),
      inOrderExchange,
      keyTakenOutExchange,
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = "", variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: subscribeResuming(socket.client, { query, variables }, sink),
          }),
        }),
      }),
    ],
  });
  return {
    client,
    liveness,
    systemsPosition: {},
    created: new Set(),
    openedPages: new Set(),
    readings,
    readAgain: () => readings.update((count) => count + 1),
    renewing: new Observed(false),
    close: socket.close,
  };
}
