import type { Client, Sink, SubscribePayload } from "graphql-ws";
import { expect, test } from "vitest";
import { subscribeResuming } from "../src/graph/socket";

/** A client that shows what it would send when it subscribes again. */
function recorder() {
  let sent: SubscribePayload | undefined;
  let sink: Sink | undefined;
  const subscribe: Client["subscribe"] = (payload, given) => {
    sent = payload;
    sink = given as Sink;
    return () => undefined;
  };
  return {
    client: { subscribe },
    variables: () => JSON.parse(JSON.stringify(sent?.variables)),
    receive: (data: Record<string, unknown>) => sink?.next({ data }),
  };
}

const ignore: Sink = { next: () => undefined, error: () => undefined, complete: () => undefined };

test("a subscription that is sent again resumes after the last change that it saw", () => {
  const { client, variables, receive } = recorder();
  const request = { query: "subscription { … }", variables: { after: "5" } };
  subscribeResuming(client, request, ignore);
  expect(variables()).toEqual({ after: "5" });
  receive({ systemChanged: { cursor: "6" } });
  receive({ systemChanged: { cursor: "7" } });
  expect(variables()).toEqual({ after: "7" });
  expect(request.variables).toEqual({ after: "5" });
});

test("a subscription whose results have no cursor is sent again as it was", () => {
  const { client, variables, receive } = recorder();
  subscribeResuming(client, { query: "subscription { … }", variables: {} }, ignore);
  receive({ viewerChanged: { id: "1" } });
  expect(variables()).toEqual({});
});
