import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { connect } from "@keymark/client";
import { LatestCursorDocument, SystemChangedDocument } from "@keymark/client/documents";

/** Serves the newest cursor, and returns what `use` does with its URL and the headers of all requests. */
async function withServer(use) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request.headers);
    response.setHeader("content-type", "application/graphql-response+json");
    response.end(JSON.stringify({ data: { auditCursor: "1" } }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${server.address().port}/graphql`, requests);
  } finally {
    server.close();
  }
}

/** Returns a WebSocket class, and a promise of the payload of `connection_init`, fulfilled at the first subscription. */
function fakeWebSocket() {
  let resolve;
  const initialized = new Promise((resolved) => {
    resolve = resolved;
  });
  class FakeWebSocket {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    readyState = 1;
    constructor() {
      setImmediate(() => this.onopen?.());
    }
    send(message) {
      const { type, payload } = JSON.parse(message);
      if (type === "subscribe") resolve(this.payload);
      if (type !== "connection_init") return;
      this.payload = payload;
      setImmediate(() => this.onmessage({ data: JSON.stringify({ type: "connection_ack" }) }));
    }
    close(code, reason) {
      this.onclose?.({ code, reason });
    }
  }
  return { webSocketImpl: FakeWebSocket, initialized };
}

test("requests and the socket name the tenant to act in", async () => {
  await withServer(async (url, requests) => {
    const { webSocketImpl, initialized } = fakeWebSocket();
    const keymark = connect({ url, token: "t", tenant: "acme", webSocketImpl });
    await keymark.request(LatestCursorDocument);
    assert.equal(requests[0]["x-keymark-tenant"], "acme");
    const following = keymark.follow(SystemChangedDocument, { onData() {} });
    assert.deepEqual(await initialized, { authorization: "Bearer t", tenant: "acme" });
    keymark.close();
    await following;
  });
});

test("without a tenant, requests and the socket name none", async () => {
  await withServer(async (url, requests) => {
    const { webSocketImpl, initialized } = fakeWebSocket();
    const keymark = connect({ url, token: "t", webSocketImpl });
    await keymark.request(LatestCursorDocument);
    assert.equal("x-keymark-tenant" in requests[0], false);
    const following = keymark.follow(SystemChangedDocument, { onData() {} });
    assert.deepEqual(await initialized, { authorization: "Bearer t" });
    keymark.close();
    await following;
  });
});
