import { type Position, subscribeWithResume } from "@keymark/client";
import { Client, fetchExchange, mapExchange, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { cacheOptions } from "../graph/cache";
import { inOrderExchange } from "../graph/in-order";
import { extractSecretExchange } from "../graph/secrets";
import { type ConnectionStatus, openSessionSocket } from "../graph/socket";
import { graphqlUrl } from "../graph/urls";
import { Observable } from "../live/observable";
import { failureOf } from "../text/failures";

/** The client and the state of one operator in one tenant, replaced as a whole when either changes. */
export interface Session {
  /** The id of the tenant that the requests are about; undefined for the operator's own. */
  tenant: string | undefined;
  client: Client;
  connection: Observable<ConnectionStatus>;
  /** The change up to which the cached lists of systems are up to date. */
  systemsPosition: Position;
  /** Systems created in this session, which the operator may see even without the permission to view systems. */
  createdSystemIds: Set<string>;
  /** The cursors of list pages that were loaded by scrolling, so that they are there on coming back to the list. */
  openedPages: Set<string>;
  /** Incremented to refetch all live queries. */
  refetchCount: Observable<number>;
  refetchAll(): void;
  /** True while the password changes, which ends the old session: the operator must not be asked to sign in. */
  changingPassword: Observable<boolean>;
  close(): void;
}

export function openSession(tenant?: string): Session {
  const connection = new Observable<ConnectionStatus>({ state: "connecting", reconnections: 0 });
  const refetchCount = new Observable(0);
  const socket = openSessionSocket(connection, tenant);
  const client = new Client({
    url: graphqlUrl(),
    preferGetMethod: false,
    fetchOptions: {
      credentials: "same-origin",
      ...(tenant !== undefined && { headers: { "x-keymark-tenant": tenant } }),
    },
    exchanges: [
      mapExchange({
        onError(error) {
          if (failureOf(error).code !== "UNAUTHENTICATED") return;
          connection.update((last) => ({ ...last, state: "ended" }));
        },
      }),
      cacheExchange(cacheOptions),
      inOrderExchange,
      extractSecretExchange,
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = "", variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: subscribeWithResume(socket.client, { query, variables }, sink),
          }),
        }),
      }),
    ],
  });
  return {
    tenant,
    client,
    connection,
    systemsPosition: {},
    createdSystemIds: new Set(),
    openedPages: new Set(),
    refetchCount,
    refetchAll: () => refetchCount.update((count) => count + 1),
    changingPassword: new Observable(false),
    close: socket.close,
  };
}
