// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { untilReachable } from "../src/live/reachable";

const fetch = vi.fn(async (_url: string) => new Response());
let visibility: DocumentVisibilityState = "visible";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetch);
  vi.spyOn(document, "visibilityState", "get").mockImplementation(() => visibility);
  visibility = "visible";
  fetch.mockReset();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Starts to wait for the server; the longest pauses are taken. */
function waitForServer() {
  const state = { reachable: false };
  void untilReachable(() => 1).then(() => {
    state.reachable = true;
  });
  return state;
}

test("a visible page notices within a second that the server is back, however long it was away", async () => {
  fetch.mockRejectedValue(new TypeError("connection refused"));
  const state = waitForServer();
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(state.reachable).toBe(false);
  fetch.mockResolvedValue(new Response("ok"));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(state.reachable).toBe(true);
  expect(fetch.mock.lastCall?.[0]).toBe("/healthz");
  expect(vi.getTimerCount()).toBe(0);
});

test("a proxy that cannot reach the server does not count as the server", async () => {
  fetch.mockResolvedValue(new Response("bad gateway", { status: 502 }));
  const state = waitForServer();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(state.reachable).toBe(false);
  fetch.mockResolvedValue(new Response("not found", { status: 404 }));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(state.reachable).toBe(true);
});

test("a hidden page asks rarely, and immediately when it becomes visible", async () => {
  visibility = "hidden";
  fetch.mockRejectedValue(new TypeError("connection refused"));
  const state = waitForServer();
  await vi.advanceTimersByTimeAsync(29_000);
  expect(fetch).toHaveBeenCalledTimes(1);
  fetch.mockResolvedValue(new Response("ok"));
  visibility = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
  await vi.advanceTimersByTimeAsync(0);
  expect(state.reachable).toBe(true);
});
