import type { Client, Sink, SubscribePayload } from "graphql-ws";
import { expect, test } from "vitest";
import { subscribeWithResume } from "../src/graph/socket";

/** A client that exposes the variables that it would send when it subscribes again. */
function fakeClient() {
  let payload: SubscribePayload | undefined;
  let sink: Sink | undefined;
  const subscribe: Client["subscribe"] = (subscribed, subscriber) => {
    payload = subscribed;
    sink = subscriber as Sink;
    return () => undefined;
  };
  return {
    client: { subscribe },
    variables: () => JSON.parse(JSON.stringify(payload?.variables)),
    receive: (data: Record<string, unknown>) => sink?.next({ data }),
  };
}

const ignore: Sink = { next: () => undefined, error: () => undefined, complete: () => undefined };

test("a subscription that is sent again resumes after the last change received", () => {
  const { client, variables, receive } = fakeClient();
  const request = { query: "subscription { … }", variables: { after: "5" } };
  subscribeWithResume(client, request, ignore);
  expect(variables()).toEqual({ after: "5" });
  receive({ systemChanged: { cursor: "6" } });
  receive({ systemChanged: { cursor: "7" } });
  expect(variables()).toEqual({ after: "7" });
  expect(request.variables).toEqual({ after: "5" });
});

test("a subscription whose results have no cursor is sent again unchanged", () => {
  const { client, variables, receive } = fakeClient();
  subscribeWithResume(client, { query: "subscription { … }", variables: {} }, ignore);
  receive({ viewerChanged: { id: "1" } });
  expect(variables()).toEqual({});
});
