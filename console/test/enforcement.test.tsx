// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { navigate, usePlace } from "../src/router";
import { routeOf } from "../src/routes";
import { entry, show, system } from "./support/render";

const ALONE = { state: "ENFORCED", elapsedMs: 0.4, instances: 1, enforcedNoLaterThan: null };
const MANY = { state: "ENFORCED", elapsedMs: 17.2, instances: 3, enforcedNoLaterThan: null };
const PENDING = {
  state: "PENDING",
  elapsedMs: 40,
  instances: 2,
  enforcedNoLaterThan: "2026-03-01T12:03:04.000Z",
};

const active = { ...system, keyState: "ACTIVE", keyMark: "abcd", revision: 2 };

const CHANGES = [
  {
    what: "revoking",
    at: "/systems/s1/key",
    before: active,
    presses: ["Revoke API Key", "Confirm"],
    mutation: "RevokeKey",
    answer: (enforcement: unknown) => ({ revokeKey: { system, enforcement } }),
    waiting: "Waiting until every instance refuses the key…",
    done: "The API key was revoked.",
    verdict: "refused",
  },
  {
    what: "deleting",
    at: "/systems/s1",
    before: active,
    presses: ["Delete System", "Confirm"],
    mutation: "DeleteSystem",
    answer: (enforcement: unknown) => ({ deleteSystem: { deletedSystemId: "s1", enforcement } }),
    waiting: "Waiting until every instance refuses the key…",
    done: "Billing was deleted.",
    verdict: "refused",
  },
  {
    what: "generating",
    at: "/systems/s1/key",
    before: system,
    presses: ["Generate API Key"],
    mutation: "GenerateKey",
    answer: (enforcement: unknown) => ({
      generateKey: { apiKey: "km_secret", system: active, enforcement },
    }),
    waiting: "Waiting until every instance accepts the key…",
    done: "API Key Generated",
    verdict: "accepted",
  },
] as const;

beforeEach(() => {
  vi.useFakeTimers();
});
let unmount = () => {};
afterEach(() => {
  unmount();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function Here() {
  return <Page route={routeOf(usePlace().path)} />;
}

/** Begins a change, as far as the server's answer. */
async function begun({ at, before, presses, mutation }: (typeof CHANGES)[number]) {
  navigate(at);
  const answers: Record<string, unknown> = { System: { system: before } };
  const page = show(<Here />, { codes: ["view", "create", "edit", "delete"], answers });
  unmount = page.unmount;
  const rendered = () => vi.advanceTimersByTimeAsync(100);
  const button = (name: string) =>
    Array.from(page.root.querySelectorAll("button")).find(
      ({ textContent }) => textContent === name,
    );
  await rendered();
  for (const name of presses) {
    button(name)?.click();
    await rendered();
  }
  expect(page.asked(mutation)).toBeDefined();
  const live = () =>
    Array.from(
      page.root.querySelectorAll("[role=status]"),
      ({ textContent }) => textContent,
    ).join();
  return { ...page, answers, rendered, button, live };
}

describe.each(CHANGES)("$what", (change) => {
  const { mutation, answer, presses, waiting, done, verdict } = change;
  const word = verdict === "refused" ? "Refused" : "Accepted";

  test.each([
    [ALONE, `${word} everywhere after less than 1 ms, on 1 instance.`],
    [MANY, `${word} everywhere after 17 ms, on 3 instances.`],
    [PENDING, new RegExp(`Not yet ${verdict} everywhere: at the latest at \\d+:03:04`)],
  ])("says how it ended: %o", async (enforcement, words) => {
    const { send, text, root, rendered } = await begun(change);
    send(mutation, answer(enforcement));
    await rendered();
    expect(text()).toContain(done);
    expect(text()).toMatch(words);
    expect(root.querySelector(".pending") !== null).toBe(enforcement.state === "PENDING");
  });

  test("says what it waits for once that takes a second, and does nothing twice", async () => {
    const { send, asked, live, button, text, rendered } = await begun(change);
    const pressed = button(presses[presses.length - 1] ?? "");
    expect(pressed?.getAttribute("aria-busy")).toBe("true");
    expect(pressed?.getAttribute("aria-disabled")).toBe("true");
    expect(live()).not.toContain(waiting);
    const before = asked(mutation);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(live()).toContain(waiting);
    pressed?.click();
    await rendered();
    expect(asked(mutation)).toBe(before);

    await vi.advanceTimersByTimeAsync(11_000);
    expect(live()).toContain(waiting);
    send(mutation, answer(MANY));
    await rendered();
    expect(text()).toContain(done);
    expect(text()).not.toContain(waiting);
  });
});

test("the news of the key that is on its way does not pass for another key", async () => {
  const [, , generating] = CHANGES;
  const { answers, send, text, rendered } = await begun(generating);
  answers.System = { system: active };
  const news = { ...entry, id: "e2", cursor: "2", action: "KEY_GENERATED" };
  send("AuditLogAppended", { auditLogAppended: news });
  await rendered();
  expect(text()).toContain("abcd");
  expect(text()).not.toContain("This system has a key. Revoke it to generate another.");
  expect(text()).toContain("A key can be revoked once the new one is shown.");
});

test("leaving is asked about while a generated key is on its way, and until it is closed", async () => {
  const [, , generating] = CHANGES;
  const asked = vi.fn((_question?: string) => false);
  vi.stubGlobal("confirm", asked);
  const { send, button, rendered } = await begun(generating);
  navigate("/systems");
  expect(asked).toHaveBeenCalledTimes(1);
  expect(asked.mock.calls[0]?.[0]).toContain("on its way");

  send(generating.mutation, generating.answer(ALONE));
  await rendered();
  navigate("/systems");
  expect(asked).toHaveBeenCalledTimes(2);
  expect(asked.mock.calls[1]?.[0]).toContain("only this once");
  expect(location.pathname).toBe(generating.at);

  button("Close")?.click();
  await rendered();
  navigate("/systems");
  expect(asked).toHaveBeenCalledTimes(2);
  expect(location.pathname).toBe("/systems");
});
