import { describe, expect, test } from "vitest";
import { countCharacters } from "../src/text/characters";
import { CUSTOM, chosenEnd, chosenSeconds, NEVER } from "../src/text/ends";
import { badgesOf } from "../src/text/key-state";
import { isEndAtRisk } from "../src/text/rotation";
import { timeSince, timeUntil } from "../src/text/time";
import { activeSystem, rotatingSystem, system } from "./support/render";

const NOW = new Date("2026-03-02T12:00:00.000Z");
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const after = (ms: number) => new Date(NOW.getTime() + ms);

describe("the badges of a system", () => {
  const texts = (parts: Partial<typeof system>) =>
    badgesOf({ ...system, ...parts }, NOW).map(({ text }) => text);
  const expiring = (ms: number) => ({
    currentKey: activeSystem.currentKey && {
      ...activeSystem.currentKey,
      expiresAt: after(ms).toISOString(),
    },
  });

  test.each([
    [{}, []],
    [{ currentKey: activeSystem.currentKey }, []],
    [expiring(31 * DAY), []],
    [expiring(30 * DAY), ["Expires in 30 days"]],
    [expiring(7 * DAY - MINUTE), ["Expires in 7 days"]],
    [expiring(DAY), ["Expires tomorrow"]],
    [expiring(3 * HOUR), ["Expires in 3 hours"]],
    [expiring(10_000), ["Expires in 1 minute"]],
    [expiring(0), ["Expired"]],
    [rotatingSystem, ["Rotating"]],
    [{ ...activeSystem, suspendedAt: NOW.toISOString() }, ["Suspended"]],
  ])("%#", (parts, expected) => {
    expect(texts(parts)).toEqual(expected);
  });

  test("report a key that expired until there is another one, but not one that was revoked", () => {
    const lastKey = { mark: "abcd", endedAt: NOW.toISOString(), reason: null };
    expect(texts({ lastKey: { ...lastKey, end: "EXPIRED" } })).toEqual(["Expired"]);
    expect(texts({ lastKey: { ...lastKey, end: "REVOKED" } })).toEqual([]);
    expect(texts({ ...activeSystem, lastKey: { ...lastKey, end: "EXPIRED" } })).toEqual([]);
  });
});

test.each([
  [10_000, "in 1 minute"],
  [26.4 * MINUTE, "in 26 minutes"],
  [59.6 * MINUTE, "in 1 hour"],
  [23.6 * HOUR, "tomorrow"],
  [6.9 * DAY, "in 7 days"],
  [364.9 * DAY, "in 365 days"],
])("%d ms ahead is %s", (ms, text) => {
  expect(timeUntil(after(ms), NOW, "en")).toBe(text);
});

test.each([
  [59_000, "less than a minute"],
  [-5_000, "less than a minute"],
  [26.9 * MINUTE, "26 minutes"],
  [49 * HOUR, "2 days"],
])("%d ms ago was %s ago", (ms, text) => {
  expect(timeSince(after(-ms), NOW, "en")).toBe(text);
});

test("an end is never, a time from now, or a time that was entered", () => {
  expect(chosenEnd({ preset: NEVER, local: "" }, NOW)).toBeNull();
  expect(chosenEnd({ preset: "3600", local: "2027-01-01T00:00" }, NOW)).toEqual(after(HOUR));
  expect(chosenEnd({ preset: CUSTOM, local: "2027-01-01T00:00" }, NOW)).toEqual(
    new Date("2027-01-01T00:00"),
  );
  expect(chosenEnd({ preset: CUSTOM, local: "" }, NOW)).toBeUndefined();
});

test("an overlap is a number of seconds, which ends in the future", () => {
  expect(chosenSeconds({ preset: "0", local: "" }, NOW)).toBe(0);
  const local = (time: Date) =>
    new Date(time.getTime() - time.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
  expect(chosenSeconds({ preset: CUSTOM, local: local(after(2 * HOUR)) }, NOW)).toBe(7_200);
  expect(chosenSeconds({ preset: CUSTOM, local: local(after(-HOUR)) }, NOW)).toBeUndefined();
  expect(chosenSeconds({ preset: CUSTOM, local: "" }, NOW)).toBeUndefined();
});

test("characters are counted as people do, without white space around them", () => {
  expect(countCharacters("  Zoë 👩‍👩‍👧 ")).toBe(5);
});

test.each([
  ["never used", 4 * DAY, HOUR, undefined, false],
  ["far from its end", 4 * DAY, 2 * DAY, MINUTE, false],
  ["a day before its end, and in use", 4 * DAY, 23 * HOUR, MINUTE, true],
  ["a day before its end, and unused for two hours", 4 * DAY, 23 * HOUR, 2 * HOUR, false],
  ["at the end of an hour, and in use", HOUR, 10 * MINUTE, MINUTE, true],
  ["at the end of an hour, and unused for half of it", HOUR, 10 * MINUTE, 30 * MINUTE, false],
  ["over", HOUR, -1, MINUTE, false],
])("an old key that is %s", (_, overlap, left, idle, atRisk) => {
  const endsAt = after(left);
  const rotation = {
    startedAt: new Date(endsAt.getTime() - overlap).toISOString(),
    endsAt: endsAt.toISOString(),
    lastUsedAt: idle === undefined ? null : after(-idle).toISOString(),
  };
  expect(isEndAtRisk(rotation, NOW)).toBe(atRisk);
});
