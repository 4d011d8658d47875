import assert from "node:assert/strict";
import { test } from "node:test";
import { subscribeWithResume } from "@keymark/client";

/** A client that exposes the variables that it would send when it subscribes again. */
function fakeClient() {
  let payload;
  let sink;
  const subscribe = (subscribed, subscriber) => {
    payload = subscribed;
    sink = subscriber;
    return () => undefined;
  };
  return {
    client: { subscribe },
    variables: () => JSON.parse(JSON.stringify(payload.variables)),
    receive: (data) => sink.next({ data }),
  };
}

const ignore = { next: () => undefined, error: () => undefined, complete: () => undefined };

test("a subscription that is sent again resumes after the last change received", () => {
  const { client, variables, receive } = fakeClient();
  const request = { query: "subscription { … }", variables: { after: "5" } };
  subscribeWithResume(client, request, ignore);
  assert.deepEqual(variables(), { after: "5" });
  receive({ systemChanged: { cursor: "6" } });
  receive({ systemChanged: { cursor: "7" } });
  assert.deepEqual(variables(), { after: "7" });
  assert.deepEqual(request.variables, { after: "5" });
});

test("a subscription whose results have no cursor is sent again unchanged", () => {
  const { client, variables, receive } = fakeClient();
  subscribeWithResume(client, { query: "subscription { … }", variables: {} }, ignore);
  receive({ viewerChanged: { id: "1" } });
  assert.deepEqual(variables(), {});
});
