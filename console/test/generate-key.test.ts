import { Client, type Exchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { expect, test } from "vitest";
import { filter, fromValue, mergeMap, pipe } from "wonka";
import { SystemDocument } from "../src/gql/graphql";
import { cacheOptions } from "../src/graph/cache";
import { extractApiKeyExchange, generateKey } from "../src/graph/generate-key";

const API_KEY = "km_secret";

const generated = {
  __typename: "Mutation",
  generateKey: {
    __typename: "GenerateKeyPayload",
    apiKey: API_KEY,
    system: {
      __typename: "System",
      id: "s1",
      name: "Billing",
      keyState: "ACTIVE",
      keyMark: "cret",
      revision: 2,
      createdAt: "2026-03-01T12:00:00.000Z",
      updatedAt: "2026-03-01T12:00:00.000Z",
    },
    enforcement: {
      __typename: "Enforcement",
      state: "ENFORCED",
      elapsedMs: 1,
      instances: 1,
      enforcedNoLaterThan: null,
    },
  },
};

test("a generated key bypasses the cache, which receives its system", async () => {
  const results: string[] = [];
  const spy: Exchange =
    ({ forward }) =>
    (operations) =>
      pipe(
        forward(operations),
        mergeMap((result) => {
          results.push(JSON.stringify(result.data));
          return fromValue(result);
        }),
      );
  const server: Exchange = () => (operations) =>
    pipe(
      operations,
      filter(({ kind }) => kind === "mutation"),
      mergeMap((operation) =>
        fromValue({ operation, data: structuredClone(generated), stale: false, hasNext: false }),
      ),
    );
  const client = new Client({
    url: "/graphql",
    exchanges: [spy, cacheExchange(cacheOptions), spy, extractApiKeyExchange, server],
  });
  const result = await generateKey(client, "s1");
  expect("newKey" in result && result.newKey).toMatchObject({ apiKey: API_KEY, mark: "cret" });
  expect(results.length).toBeGreaterThan(1);
  expect(results.join()).not.toContain(API_KEY);
  expect(client.readQuery(SystemDocument, { id: "s1" })?.data?.system?.keyMark).toBe("cret");
});
