import { describe, expect, test } from "vitest";
import { BIN_MS, BINS, callsByBin, callsText, type Sample, withSample } from "../src/text/calls";
import { lastUseText } from "../src/text/rotation";

const NOW = 1_000 * BIN_MS;

const samplesOf = (...samples: Sample[]) =>
  samples.reduce<readonly Sample[]>((before, sample) => withSample(before, sample), []);

describe("the calls of a key", () => {
  test("are the differences between its counts; what was counted before is none of them", () => {
    const samples = samplesOf(
      { at: NOW - 3 * BIN_MS + 1, accepted: 1_000 },
      { at: NOW - 2 * BIN_MS + 1, accepted: 1_005 },
      { at: NOW - 2 * BIN_MS + 2, accepted: 1_007 },
      { at: NOW, accepted: 1_010 },
    );
    const calls = callsByBin(samples, NOW);
    expect(calls.length).toBe(BINS);
    expect(calls.slice(-3)).toEqual([0, 7, 3]);
    expect(callsText(calls, "en")).toBe("10 calls in the last 10 minutes");
  });

  test("move to the left, and out of the chart", () => {
    const samples = samplesOf({ at: NOW - 1, accepted: 0 }, { at: NOW, accepted: 4 });
    expect(callsByBin(samples, NOW + 2 * BIN_MS).slice(-4)).toEqual([0, 4, 0, 0]);
    expect(callsByBin(samples, NOW + BINS * BIN_MS)).toEqual(Array(BINS).fill(0));
  });

  test("of one count are none, and a count that is no higher is ignored", () => {
    expect(samplesOf({ at: NOW, accepted: 4 }, { at: NOW + 1, accepted: 4 })).toEqual([
      { at: NOW, accepted: 4 },
    ]);
    expect(samplesOf({ at: NOW, accepted: 4 }, { at: NOW + 1, accepted: 2 })).toEqual([
      { at: NOW, accepted: 4 },
    ]);
    expect(callsText(callsByBin([{ at: NOW, accepted: 4 }], NOW))).toBe(
      "0 calls in the last 10 minutes",
    );
  });

  test("are forgotten once they are older than the chart, except the baseline", () => {
    let samples: readonly Sample[] = [];
    for (let count = 0; count < 1_000; count += 1) {
      samples = withSample(samples, { at: NOW + count * BIN_MS, accepted: count });
    }
    expect(samples.length).toBeLessThanOrEqual(BINS + 3);
    const calls = callsByBin(samples, NOW + 999 * BIN_MS);
    expect(calls).toEqual(Array(BINS).fill(1));
  });
});

test.each([
  [undefined, undefined],
  [null, "No call with ••••abcd yet"],
  ["2026-03-02T11:59:30.000Z", "Calls with ••••abcd within the last minute"],
  ["2026-03-02T11:33:30.000Z", "No call with ••••abcd for 26 minutes"],
])("a key that was last used at %s", (lastUsedAt, text) => {
  const use = lastUsedAt === undefined ? undefined : { lastUsedAt };
  expect(lastUseText("abcd", use, new Date("2026-03-02T12:00:00.000Z"))).toBe(text);
});
