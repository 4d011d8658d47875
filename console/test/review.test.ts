import { describe, expect, test } from "vitest";
import { reviewPath, routeOf } from "../src/routes";
import { type Outcome, progressText, runBulk } from "../src/text/bulk";
import { couldBeMark } from "../src/text/pasted-key";
import { isBackward, parseReview, REVIEWS, reviewFilter, reviewOrder } from "../src/text/review";

const NOW = new Date("2026-03-02T12:00:00.000Z");

describe("a review", () => {
  const parse = (query: string) => parseReview(new URLSearchParams(query));

  test.each([
    ["", { unusedSince: "2026-03-02T12:00:00.000Z" }],
    ["find=unused", { unusedSince: "2025-12-02T12:00:00.000Z" }],
    ["find=unused&days=30", { unusedSince: "2026-01-31T12:00:00.000Z" }],
    ["find=unused&days=-1", { unusedSince: "2025-12-02T12:00:00.000Z" }],
    ["find=old&days=90", { generatedBefore: "2025-12-02T12:00:00.000Z" }],
    ["find=expiring&days=7", { expiresBefore: "2026-03-09T12:00:00.000Z" }],
    ["find=generated-by&operator=o1", { generatedById: "o1" }],
    ["find=generated-by", undefined],
    ["find=suspended", { keyState: "SUSPENDED" }],
  ])("of %j has its filter", (query, filter) => {
    expect(reviewFilter(parse(query), NOW)).toEqual(filter);
  });

  test.each(REVIEWS)("%s is unchanged by its URL", (kind) => {
    const review = parse(`find=${kind}&days=45&operator=o1&sort=name`);
    const path = new URL(reviewPath(review), "http://keymark");
    expect(routeOf(path.pathname)).toEqual({ page: "review" });
    const again = parseReview(path.searchParams);
    expect(reviewFilter(again, NOW)).toEqual(reviewFilter(review, NOW));
    expect(reviewOrder(again)).toEqual({ field: "NAME", direction: "ASC" });
  });

  test("shows what was never used from the end of the order by use", () => {
    const review = parse("find=never-used");
    expect(isBackward(review)).toBe(true);
    expect(reviewOrder(review)).toEqual({ field: "LAST_USED_AT", direction: "ASC" });
  });
});

describe("a bulk action", () => {
  const run = async (act: (item: string) => string | undefined, stopAfter = Infinity) => {
    const outcomes = new Map<string, Outcome>();
    const attempted: string[] = [];
    await runBulk({
      items: ["a", "b", "c"],
      act: async (item) => {
        attempted.push(item);
        return act(item);
      },
      isStopped: () => attempted.length >= stopAfter,
      onOutcome: (item, outcome) => outcomes.set(item, outcome),
    });
    return { attempted, outcomes: Array.from(outcomes.values()) };
  };

  test("goes on after a failure, and reports each outcome", async () => {
    const { attempted, outcomes } = await run((item) => (item === "b" ? "gone" : undefined));
    expect(attempted).toEqual(["a", "b", "c"]);
    expect(outcomes).toEqual([
      { state: "done" },
      { state: "failed", message: "gone" },
      { state: "done" },
    ]);
    expect(progressText(outcomes)).toBe("2 of 3 done, 1 failed");
  });

  test("leaves the remaining items alone once it is stopped", async () => {
    const { attempted, outcomes } = await run(() => undefined, 1);
    expect(attempted).toEqual(["a"]);
    expect(outcomes).toEqual([{ state: "done" }, { state: "stopped" }, { state: "stopped" }]);
    expect(progressText(outcomes)).toBe("1 of 3 done, 2 not attempted");
  });
});

test.each([
  ["a1B2", true],
  ["a1B", false],
  ["a1B2c", false],
  ["a-B2", false],
])("%s could be a mark: %s", (text, expected) => {
  expect(couldBeMark(text)).toBe(expected);
});
