import { CombinedError } from "@urql/core";
import { expect, test } from "vitest";
import { authorizationOf } from "../src/graphiql/authorization";
import { backOff } from "../src/live/back-off";
import { enforcementText } from "../src/text/enforcement";
import { failureOf } from "../src/text/failures";
import { markText } from "../src/text/mark";
import { relativeTime } from "../src/text/time";

test("a mark shows the last characters alone", () => {
  expect(markText("abcd")).toBe("••••••••••••abcd");
  expect(markText(null)).toBe("Not generated");
});

test.each([
  ["2026-03-01T12:00:00.000Z", "just now"],
  ["2026-03-01T12:00:05.000Z", "just now"],
  ["2026-03-01T11:58:59.000Z", "1 minute ago"],
  ["2026-03-01T09:00:00.000Z", "3 hours ago"],
  ["2026-02-28T11:00:00.000Z", "yesterday"],
  ["2025-01-01T00:00:00.000Z", "last year"],
])("%s is %s", (time, words) => {
  expect(relativeTime(new Date(time), new Date("2026-03-01T12:00:00.000Z"), "en")).toBe(words);
});

const answered = (extensions: Record<string, unknown>) =>
  new CombinedError({ graphQLErrors: [{ message: "Said by the server.", extensions }] });

test.each([
  [{ code: "NAME_TAKEN" }, "Another system already has this name."],
  [{ code: "INVALID_NAME" }, "Said by the server."],
  [{ code: "RATE_LIMITED", retryAfterSeconds: 1 }, "Too many attempts. Try again in 1 second."],
  [{ code: "UNHEARD_OF" }, "Said by the server."],
  [
    { code: "FORBIDDEN", permission: "api_key_management:edit" },
    "You need the permission code api_key_management:edit. Ask whoever manages your tenant's operators for it.",
  ],
])("%o is said in words", (extensions, words) => {
  expect(failureOf(answered(extensions)).words).toBe(words);
});

test("no answer at all is said as such", () => {
  const { code, words } = failureOf(new CombinedError({ networkError: new Error("refused") }));
  expect(code).toBeUndefined();
  expect(words).toMatch(/cannot be reached/);
});

test("waiting doubles up to half a minute and never goes without a part by chance", () => {
  expect([0, 1, 2, 10, 5000].map((failures) => backOff(failures, () => 1))).toEqual([
    500, 1000, 2000, 30_000, 30_000,
  ]);
  expect(backOff(2, () => 0)).toBe(1000);
});

const enforced = {
  state: "ENFORCED",
  elapsedMs: 17.4,
  instances: 3,
  enforcedNoLaterThan: null,
} as const;

test("a revocation says how soon it was enforced, and on how many instances", () => {
  expect(enforcementText("refused", enforced, "en")).toBe(
    "Refused everywhere after 17 ms, on 3 instances.",
  );
  expect(enforcementText("accepted", { ...enforced, elapsedMs: 0.42, instances: 1 }, "en")).toBe(
    "Accepted everywhere after less than 1 ms, on 1 instance.",
  );
  expect(enforcementText("refused", { ...enforced, elapsedMs: 11_439 }, "en")).toBe(
    "Refused everywhere after 11.4 s, on 3 instances.",
  );
});

test("a pending revocation says until when", () => {
  const pending = { ...enforced, state: "PENDING" } as const;
  const until = { ...pending, enforcedNoLaterThan: "2026-03-01T12:03:04.000Z" };
  expect(enforcementText("refused", until, "en")).toMatch(
    /^Not yet refused everywhere: at the latest at \d+:03:04\b.*\.$/,
  );
  expect(enforcementText("accepted", pending, "en")).toBe("Not yet accepted everywhere.");
});

test("the headers editor may spell Authorization in any case", () => {
  expect(authorizationOf({ AUTHORIZATION: "Bearer t" })).toBe("Bearer t");
  expect(authorizationOf({ other: "x" })).toBeUndefined();
  expect(authorizationOf(undefined)).toBeUndefined();
});
