import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { signedIn } from "./support/api.js";
import { startKeymark } from "./support/keymark.js";

const CHANGES = `subscription ($after: String) {
  systemChanged(after: $after) { cursor kind systemId system { name } }
}`;

describe("the graphql-ws client", () => {
  let keymark;
  before(async () => {
    keymark = await startKeymark();
  });
  after(() => keymark.stop());

  test("follows changes with a bearer token", async () => {
    const api = await signedIn(keymark);
    const changes = follow(keymark, api.token, await api.latestChange());
    const systemId = await api.createSystem("Followed");
    const created = await next(changes);
    assert.deepEqual(
      [created.kind, created.systemId, created.system],
      ["CREATED", systemId, { name: "Followed" }],
    );
    await api.deleteSystem(systemId);
    const deleted = await next(changes);
    assert.deepEqual([deleted.kind, deleted.systemId, deleted.system], ["DELETED", systemId, null]);
    await changes.return();
  });

  test("resumes after the last change that it saw, missing none and repeating none", async () => {
    const api = await signedIn(keymark);
    const before = follow(keymark, api.token, await api.latestChange());
    const systemId = await api.createSystem("Resumed");
    const { cursor } = await next(before);
    await before.return();

    await api.renameSystem(systemId, "Resumed and renamed");
    await api.generateKey(systemId);
    const after = follow(keymark, api.token, cursor);
    const missed = [await next(after), await next(after)];
    await api.deleteSystem(systemId);
    const kinds = [...missed, await next(after)].map(({ kind }) => kind);
    assert.deepEqual(kinds, ["RENAMED", "KEY_GENERATED", "DELETED"]);
    await after.return();
  });

  test("is refused without credentials with 4403", async () => {
    const changes = follow(keymark, undefined, null);
    await assert.rejects(next(changes), ({ code }) => code === 4403);
  });
});

function follow(keymark, token, after) {
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
