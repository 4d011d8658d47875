import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { backoff, keepOpen } from "@keymark/client";

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(Math, "random", () => 1);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** Lets time pass, and what waits for it run. */
async function pass(ms) {
  await setImmediate();
  mock.timers.tick(ms);
  await setImmediate();
}

test("a stream that ends is reopened with backoff until the signal aborts", async () => {
  const stop = new AbortController();
  const open = mock.fn(async () => undefined);
  const kept = keepOpen(stop.signal, open);
  await pass(0);
  assert.equal(open.mock.callCount(), 1);
  await pass(500);
  assert.equal(open.mock.callCount(), 2);
  await pass(999);
  assert.equal(open.mock.callCount(), 2);
  await pass(1);
  assert.equal(open.mock.callCount(), 3);
  stop.abort();
  await kept;
  await pass(60_000);
  assert.equal(open.mock.callCount(), 3);
});

test("a stream that fails is reopened only if a retry is worth it", async () => {
  const { signal } = new AbortController();
  const failures = [new Error("for now"), new Error("for good")];
  const open = mock.fn(async () => {
    throw failures[open.mock.callCount()];
  });
  const kept = assert.rejects(
    keepOpen(signal, open, ({ message }) => message === "for now"),
    /for good/,
  );
  await pass(500);
  await kept;
  assert.equal(open.mock.callCount(), 2);
});

test("nothing waits after the signal aborted while the stream was open", async () => {
  const stop = new AbortController();
  await keepOpen(stop.signal, async () => stop.abort());
});

test("the backoff doubles up to half a minute, and half of it is random", () => {
  assert.deepEqual(
    [0, 1, 2, 10, 5000].map((failures) => backoff(failures, () => 1)),
    [500, 1000, 2000, 30_000, 30_000],
  );
  assert.equal(
    backoff(2, () => 0),
    1000,
  );
});
