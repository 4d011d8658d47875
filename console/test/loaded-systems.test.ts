import {
  SystemChangedDocument,
  type SystemChangedSubscription,
  SystemsDocument,
} from "@keymark/client/documents";
import { Client, type Exchange, type Operation } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { expect, test } from "vitest";
import { filter, fromValue, makeSubject, merge, mergeMap, pipe, subscribe } from "wonka";
import { cacheOptions } from "../src/graph/cache";
import { system } from "./support/render";

const VARIABLES = { search: "", first: 2 };
const named = (id: string, name: string) => ({ ...system, __typename: "System", id, name });

/** Loads the first page of a list that has more, and follows changes. */
function loadList() {
  const changes = makeSubject<SystemChangedSubscription["systemChanged"]>();
  const nodes = [named("a", "Ada"), named("d", "Dan")];
  const pageInfo = { __typename: "PageInfo", hasNextPage: true, endCursor: "after Dan" };
  const systems = { __typename: "SystemConnection", nodes, pageInfo };
  const respond = (operation: Operation, data: unknown) =>
    fromValue({ operation, data, stale: false, hasNext: false });
  const server: Exchange = () => (operations) =>
    merge([
      pipe(
        operations,
        filter(({ kind }) => kind === "query"),
        mergeMap((operation) => respond(operation, { __typename: "Query", systems })),
      ),
      pipe(
        operations,
        filter(({ kind }) => kind === "subscription"),
        mergeMap((operation) =>
          pipe(
            changes.source,
            mergeMap((systemChanged) =>
              respond(operation, { __typename: "Subscription", systemChanged }),
            ),
          ),
        ),
      ),
    ]);
  const exchanges = [cacheExchange(cacheOptions), server];
  const client = new Client({ url: "/graphql", exchanges });
  const follow = (source: ReturnType<typeof client.subscription | typeof client.query>) =>
    pipe(
      source,
      subscribe(() => undefined),
    );
  follow(client.query(SystemsDocument, VARIABLES));
  follow(client.subscription(SystemChangedDocument, {}));
  return {
    /** Sends a change of that system. */
    change(kind: "RENAMED" | "CREATED" | "DELETED", id: string, name: string) {
      const changed = { ...named(id, name), revision: 2 };
      changes.next({
        __typename: "SystemChange",
        cursor: "1",
        kind,
        systemId: id,
        system: kind === "DELETED" ? null : changed,
        entry: {
          __typename: "AuditEntry",
          id: `e-${id}`,
          actor: { __typename: "AuditActor", id: "o1" },
          systemName: name,
        },
      } as SystemChangedSubscription["systemChanged"]);
    },
    names: () =>
      client
        .readQuery(SystemsDocument, VARIABLES)
        ?.data?.systems.nodes.map(({ name }) => name)
        .join(),
  };
}

test("the last row of a page stays where the next page does not reach", () => {
  const { change, names } = loadList();
  expect(names()).toBe("Ada,Dan");
  change("RENAMED", "d", "Dan");
  expect(names()).toBe("Ada,Dan");
  change("RENAMED", "d", "Bob");
  expect(names()).toBe("Ada,Bob");
  change("CREATED", "c", "Cleo");
  expect(names()).toBe("Ada,Bob,Cleo");
  change("RENAMED", "d", "Eve");
  expect(names()).toBe("Ada,Cleo");
  change("DELETED", "c", "Cleo");
  expect(names()).toBe("Ada");
});
