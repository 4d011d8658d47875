import type { ExchangeInput, Operation, OperationResult } from "@urql/core";
import { Client, createRequest } from "@urql/core";
import { expect, test } from "vitest";
import { makeSubject, pipe, subscribe } from "wonka";
import { inOrderExchange, systemsIn } from "../src/graph/in-order";

/** Operations go in, answers come when the test says, and what arrives at the cache is noted. */
function wire() {
  const operations = makeSubject<Operation>();
  const answers = makeSubject<OperationResult>();
  const client = new Client({ url: "/graphql", exchanges: [] });
  const forward = (source: Parameters<ExchangeInput["forward"]>[0]) => {
    pipe(
      source,
      subscribe(() => undefined),
    );
    return answers.source;
  };
  const arrived: unknown[] = [];
  const exchange = inOrderExchange({ client, forward, dispatchDebug: () => undefined });
  pipe(
    exchange(operations.source),
    subscribe(({ data }) => arrived.push(data)),
  );
  const operation = (kind: "query" | "subscription", query: string) => {
    const created = client.createRequestOperation(kind, createRequest(query, {}));
    operations.next(created);
    return (data: unknown) =>
      answers.next({ operation: created, data, stale: false, hasNext: false });
  };
  return { operation, arrived };
}

const QUERY = "query Systems { systems { id } }";
const SUBSCRIPTION = "subscription Changed { systemChanged { id } }";
const list = (revision: number) => ({ systems: { nodes: [{ id: "a", revision }] } });
const change = (revision: number) => ({ systemChanged: { system: { id: "a", revision } } });

test("a change that is older than what is known brings what is known", () => {
  const { operation, arrived } = wire();
  const answer = operation("query", QUERY);
  const send = operation("subscription", SUBSCRIPTION);
  answer(list(5));
  send(change(4));
  send(change(5));
  send(change(6));
  expect(arrived).toEqual([list(5), change(5), change(5), change(6)]);
});

test("an answer that was on its way while a change arrived is followed by the change once more", () => {
  const { operation, arrived } = wire();
  const send = operation("subscription", SUBSCRIPTION);
  const answer = operation("query", QUERY);
  send(change(2));
  answer(list(1));
  expect(arrived).toEqual([change(2), list(1), change(2)]);
  operation("query", QUERY)(list(2));
  expect(arrived).toEqual([change(2), list(1), change(2), list(2)]);
});

test("systems are found however deep they are", () => {
  const data = { deep: [{ system: { id: "a", revision: 1, name: "x" } }, null], text: "revision" };
  expect(systemsIn(data)).toEqual([{ id: "a", revision: 1, name: "x" }]);
});
