import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { signInToApi } from "./support/api.js";
import { startKeymark } from "./support/keymark.js";

const CHANGES = `subscription ($after: String) {
  systemChanged(after: $after) { cursor kind systemId system { name } }
}`;

describe("a graphql-ws client", () => {
  let keymark;
  before(async () => {
    keymark = await startKeymark();
  });
  after(() => keymark.stop());

  test("receives changes with a bearer token", async () => {
    const api = await signInToApi(keymark);
    const changes = subscribe(keymark, api.token, await api.latestCursor());
    const systemId = await api.createSystem("Received");
    const created = await next(changes);
    assert.deepEqual(
      [created.kind, created.systemId, created.system],
      ["CREATED", systemId, { name: "Received" }],
    );
    await api.deleteSystem(systemId);
    const deleted = await next(changes);
    assert.deepEqual([deleted.kind, deleted.systemId, deleted.system], ["DELETED", systemId, null]);
    await changes.return();
  });

  test("resumes after the last change received, without gaps or duplicates", async () => {
    const api = await signInToApi(keymark);
    const before = subscribe(keymark, api.token, await api.latestCursor());
    const systemId = await api.createSystem("Resumed");
    const { cursor } = await next(before);
    await before.return();

    await api.renameSystem(systemId, "Resumed and renamed");
    await api.generateKey(systemId);
    const after = subscribe(keymark, api.token, cursor);
    const missed = [await next(after), await next(after)];
    await api.deleteSystem(systemId);
    const kinds = [...missed, await next(after)].map(({ kind }) => kind);
    assert.deepEqual(kinds, ["RENAMED", "KEY_GENERATED", "DELETED"]);
    await after.return();
  });

  test("without credentials is refused with close code 4403", async () => {
    const changes = subscribe(keymark, undefined, null);
    await assert.rejects(next(changes), ({ code }) => code === 4403);
  });
});

function subscribe(keymark, token, after) {
  const client = createClient({
    url: keymark.webSocket,
    webSocketImpl: WebSocket,
    ...(token === undefined ? {} : { connectionParams: { authorization: `Bearer ${token}` } }),
    retryAttempts: 0,
  });
  return client.iterate({ query: CHANGES, variables: { after } });
}

async function next(changes) {
  const { value } = await changes.next();
  assert.equal(value.errors, undefined);
  return value.data.systemChanged;
}
