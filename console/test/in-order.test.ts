import type { ExchangeInput, Operation, OperationResult } from "@urql/core";
import { Client, createRequest } from "@urql/core";
import { expect, test } from "vitest";
import { makeSubject, pipe, subscribe } from "wonka";
import { inOrderExchange, systemsIn } from "../src/graph/in-order";

/** Starts operations, sends their results, and records what the exchange delivers to the cache. */
function setUp() {
  const operations = makeSubject<Operation>();
  const results = makeSubject<OperationResult>();
  const client = new Client({ url: "/graphql", exchanges: [] });
  const forward = (source: Parameters<ExchangeInput["forward"]>[0]) => {
    pipe(
      source,
      subscribe(() => undefined),
    );
    return results.source;
  };
  const delivered: unknown[] = [];
  const exchange = inOrderExchange({ client, forward, dispatchDebug: () => undefined });
  pipe(
    exchange(operations.source),
    subscribe(({ data }) => delivered.push(data)),
  );
  /** Returns a function that sends a result of the operation. */
  const start = (kind: "query" | "mutation" | "subscription", query: string) => {
    const operation = client.createRequestOperation(kind, createRequest(query, {}));
    operations.next(operation);
    return (data: unknown) => results.next({ operation, data, stale: false, hasNext: false });
  };
  return { start, delivered };
}

const QUERY = "query Systems { systems { id } }";
const SUBSCRIPTION = "subscription Changed { systemChanged { id } }";
const list = (revision: number) => ({ systems: { nodes: [{ id: "a", revision }] } });
const change = (revision: number) => ({ systemChanged: { system: { id: "a", revision } } });

test("a change with an outdated revision is delivered with the newest one", () => {
  const { start, delivered } = setUp();
  const respond = start("query", QUERY);
  const send = start("subscription", SUBSCRIPTION);
  respond(list(5));
  send(change(4));
  send(change(5));
  send(change(6));
  expect(delivered).toEqual([list(5), change(5), change(5), change(6)]);
});

test("the response to a mutation that a change has overtaken is delivered with the newest revision", () => {
  const { start, delivered } = setUp();
  const respond = start("mutation", "mutation Describe { describeSystem { id } }");
  const described = (revision: number) => ({
    describeSystem: { system: { id: "a", revision }, enforcement: null },
  });
  start("subscription", SUBSCRIPTION)(change(3));
  respond(described(2));
  expect(delivered).toEqual([change(3), described(3)]);
});

test("a change that arrives while a query is in flight is delivered again after its response", () => {
  const { start, delivered } = setUp();
  const send = start("subscription", SUBSCRIPTION);
  const respond = start("query", QUERY);
  send(change(2));
  respond(list(1));
  expect(delivered).toEqual([change(2), list(1), change(2)]);
  start("query", QUERY)(list(2));
  expect(delivered).toEqual([change(2), list(1), change(2), list(2)]);
});

test("systems are found at any depth", () => {
  const data = { deep: [{ system: { id: "a", revision: 1, name: "x" } }, null], text: "revision" };
  expect(systemsIn(data)).toEqual([{ id: "a", revision: 1, name: "x" }]);
});

test("the use of keys is delivered only if they are the system's newest", () => {
  const { start, delivered } = setUp();
  const respond = start("query", QUERY);
  const send = start("subscription", "subscription Used { usageChanged { id } }");
  const [first, second] = [{ generatedAt: "1" }, { generatedAt: "2" }];
  const rotated = { id: "a", currentKey: second, retiringKey: first };
  const used = (system: object) => ({ usageChanged: system });
  const before = used({ id: "a", currentKey: first, retiringKey: null });
  send(before);
  respond({ system: { ...rotated, revision: 2 } });
  send(before);
  send(used(rotated));
  // What arrived while the query was in flight is delivered again, but not if it is outdated since.
  expect(delivered).toEqual([before, { system: { ...rotated, revision: 2 } }, used(rotated)]);
});
