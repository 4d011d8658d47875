import { Client, fetchExchange, mapExchange, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { cacheOptions } from "../graph/cache";
import { type Liveness, openSocket, subscribeResuming } from "../graph/socket";
import { graphqlUrl } from "../graph/urls";
import { Observed } from "../live/observed";
import { failureOf } from "../text/failures";

/** What is held for one operator, dropped as a whole when another signs in. */
export interface Session {
  client: Client;
  liveness: Observed<Liveness>;
  close(): void;
}

export function openSession(): Session {
  const liveness = new Observed<Liveness>({ state: "connecting", reconnections: 0 });
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
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = "", variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: subscribeResuming(socket, { query, variables }, sink),
          }),
        }),
      }),
    ],
  });
  return { client, liveness, close: () => socket.dispose() };
}
