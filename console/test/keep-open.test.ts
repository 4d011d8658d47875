// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { keepOpen } from "../src/live/keep-open";

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(1);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("a stream that ends is reopened with backoff until the signal aborts", async () => {
  const stop = new AbortController();
  const open = vi.fn(() => Promise.resolve());
  const kept = keepOpen(stop.signal, open);
  await vi.advanceTimersByTimeAsync(0);
  expect(open).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(500);
  expect(open).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(499);
  expect(open).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(501);
  expect(open).toHaveBeenCalledTimes(3);
  stop.abort();
  await kept;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(open).toHaveBeenCalledTimes(3);
});

test("nothing waits after the signal aborted while the stream was open", async () => {
  const stop = new AbortController();
  await keepOpen(stop.signal, async () => stop.abort());
  expect(vi.getTimerCount()).toBe(0);
});
