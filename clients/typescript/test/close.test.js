import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

/** Closes a client that waits to reconnect. The wait is long, so that the process ends only if closing ends it. */
const PROGRAM = `
  import { connect } from "@keymark/client";
  import { SystemChangedDocument } from "@keymark/client/documents";

  const { setTimeout: wait } = globalThis;
  globalThis.setTimeout = (callback, ms) => wait(callback, 1000 * ms);
  class UnreachableWebSocket {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    constructor() {
      setImmediate(() => {
        this.onerror(new Error("refused"));
        setImmediate(() => keymark.close());
      });
    }
  }
  const keymark = connect({
    url: "http://127.0.0.1/graphql",
    token: "t",
    webSocketImpl: UnreachableWebSocket,
  });
  await keymark.follow(SystemChangedDocument, { position: { cursor: "1" }, onData() {} });
`;

test("a process ends when it closes its client during an outage", async () => {
  const program = ["--input-type=module", "--eval", PROGRAM];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, program, {
    timeout: 60_000,
  });
  assert.deepEqual([stdout, stderr], ["", ""]);
});
