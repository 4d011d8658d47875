import { SystemDocument } from "@keymark/client/documents";
import { Client, type Exchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { expect, test } from "vitest";
import { filter, fromValue, mergeMap, pipe } from "wonka";
import { cacheOptions } from "../src/graph/cache";
import { generateKey, rotateKey } from "../src/graph/generate-key";
import { extractSecretExchange } from "../src/graph/secrets";

const API_KEY = "km_secret";

const payload = (field: string, type: string, keyMark = "cret") => ({
  __typename: "Mutation",
  [field]: {
    __typename: type,
    apiKey: API_KEY,
    system: {
      __typename: "System",
      id: "s1",
      name: "Billing",
      description: null,
      externalId: null,
      keyState: "ACTIVE",
      keyMark,
      currentKey: {
        __typename: "ApiKey",
        role: "CURRENT",
        mark: keyMark,
        generatedAt: "2026-03-01T12:00:00.000Z",
        generatedBy: { __typename: "AuditActor", kind: "OPERATOR", id: "o1", name: "alice" },
        expiresAt: null,
      },
      retiringKey: null,
      lastKey: null,
      suspendedAt: null,
      suspendedReason: null,
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
});

function clientWith(response: ReturnType<typeof payload>, spy: Exchange) {
  const server: Exchange = () => (operations) =>
    pipe(
      operations,
      filter(({ kind }) => kind === "mutation"),
      mergeMap((operation) =>
        fromValue({ operation, data: structuredClone(response), stale: false, hasNext: false }),
      ),
    );
  return new Client({
    url: "/graphql",
    exchanges: [spy, cacheExchange(cacheOptions), spy, extractSecretExchange, server],
  });
}

test.each([
  ["generated", payload("generateKey", "GenerateKeyPayload"), generateKey],
  ["rotated", payload("rotateKey", "RotateKeyPayload"), rotateKey],
])("a %s key bypasses the cache, which receives its system", async (_, response, request) => {
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
  const client = clientWith(response, spy);
  const result = await request(client, { systemId: "s1", overlapSeconds: 0 });
  expect("newKey" in result && result.newKey).toMatchObject({ apiKey: API_KEY, mark: "cret" });
  expect(results.length).toBeGreaterThan(1);
  expect(results.join()).not.toContain(API_KEY);
  expect(client.readQuery(SystemDocument, { id: "s1" })?.data?.system?.keyMark).toBe("cret");
});

test("a new key has its own mark even if the system has another key by then", async () => {
  const unseen: Exchange = ({ forward }) => forward;
  const client = clientWith(payload("rotateKey", "RotateKeyPayload", "next"), unseen);
  const result = await rotateKey(client, { systemId: "s1", overlapSeconds: 0 });
  expect("newKey" in result && result.newKey).toMatchObject({ mark: "cret", rotated: false });
});
