import { CombinedError } from "@urql/core";
import { expect, test } from "vitest";
import { enforcementText } from "../src/text/enforcement";
import { failureOf } from "../src/text/failures";
import { markText } from "../src/text/mark";
import { relativeTime } from "../src/text/time";

test("a mark shows only the last characters", () => {
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
])("%s is %s", (time, text) => {
  expect(relativeTime(new Date(time), new Date("2026-03-01T12:00:00.000Z"), "en")).toBe(text);
});

const errorWith = (extensions: Record<string, unknown>) =>
  new CombinedError({ graphQLErrors: [{ message: "The server's message.", extensions }] });

test.each([
  [{ code: "NAME_TAKEN" }, "Another system already has this name. Choose a different one."],
  [{ code: "INVALID_NAME" }, "The server's message."],
  [{ code: "RATE_LIMITED", retryAfterSeconds: 1 }, "Too many attempts. Try again in 1 second."],
  [{ code: "UNKNOWN_CODE" }, "The server's message."],
  [
    { code: "FORBIDDEN", permission: "api_key_management:edit" },
    "You need the permission code api_key_management:edit. Ask the person who manages your tenant's operators.",
  ],
])("%o has a message for the operator", (extensions, message) => {
  expect(failureOf(errorWith(extensions)).message).toBe(message);
});

test("the server's message is shown for what is not about systems", () => {
  const notFound = errorWith({ code: "NOT_FOUND" });
  expect(failureOf(notFound).message).toMatch(/^This system no longer exists/);
  expect(failureOf(notFound, "other").message).toBe("The server's message.");
  expect(failureOf(errorWith({ code: "UNAVAILABLE" }), "other").message).toMatch(/unavailable/);
});

test("a missing response is reported as an unreachable server", () => {
  const { code, message } = failureOf(new CombinedError({ networkError: new Error("refused") }));
  expect(code).toBeUndefined();
  expect(message).toMatch(/cannot be reached/);
});

const EN = { locale: "en" };

const enforced = {
  state: "ENFORCED",
  elapsedMs: 17.4,
  instances: 3,
  enforcedNoLaterThan: null,
} as const;

test("an enforced change shows how long it took, and on how many instances", () => {
  expect(enforcementText("refused", enforced, EN)).toBe(
    "Refused everywhere after 17 ms, on 3 instances.",
  );
  expect(enforcementText("accepted", { ...enforced, elapsedMs: 0.42, instances: 1 }, EN)).toBe(
    "Accepted everywhere after less than 1 ms, on 1 instance.",
  );
  expect(enforcementText("refused", { ...enforced, elapsedMs: 11_439 }, EN)).toBe(
    "Refused everywhere after 11.4 s, on 3 instances.",
  );
  expect(enforcementText("refused", enforced, { ...EN, subject: "Its key" })).toBe(
    "Its key is refused everywhere after 17 ms, on 3 instances.",
  );
});

test("a pending change shows by when it is enforced", () => {
  const pending = { ...enforced, state: "PENDING" } as const;
  const until = { ...pending, enforcedNoLaterThan: "2026-03-01T12:03:04.000Z" };
  expect(enforcementText("refused", until, EN)).toMatch(
    /^Not yet refused everywhere\. It will be at \d+:03:04\b.* at the latest\.$/,
  );
  expect(enforcementText("accepted", pending, EN)).toBe("Not yet accepted everywhere.");
});
