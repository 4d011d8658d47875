// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { navigate, useLocation } from "../src/router";
import { routeOf } from "../src/routes";
import { activeSystem, entry, rendered, show, system } from "./support/render";

const SINGLE = { state: "ENFORCED", elapsedMs: 0.4, instances: 1, enforcedNoLaterThan: null };
const CLUSTER = { state: "ENFORCED", elapsedMs: 17.2, instances: 3, enforcedNoLaterThan: null };
const PENDING = {
  state: "PENDING",
  elapsedMs: 40,
  instances: 2,
  enforcedNoLaterThan: "2026-03-01T12:03:04.000Z",
};

const CHANGES = [
  {
    what: "revoking",
    path: "/systems/s1/key",
    before: activeSystem,
    buttons: ["Revoke API Key", "Confirm"],
    mutation: "RevokeKey",
    result: (enforcement: unknown) => ({ revokeKey: { system, enforcement } }),
    waiting: "Waiting until every instance refuses the key…",
    done: "The API key was revoked.",
    verdict: "refused",
    subject: "",
  },
  {
    what: "deleting",
    path: "/systems/s1",
    before: activeSystem,
    buttons: ["Delete System", "Confirm"],
    mutation: "DeleteSystem",
    result: (enforcement: unknown) => ({ deleteSystem: { deletedSystemId: "s1", enforcement } }),
    waiting: "Waiting until every instance refuses the key…",
    done: "Billing was deleted.",
    verdict: "refused",
    subject: "Its key is ",
  },
  {
    what: "generating",
    path: "/systems/s1/key",
    before: system,
    buttons: ["Generate API Key"],
    mutation: "GenerateKey",
    result: (enforcement: unknown) => ({
      generateKey: { apiKey: "km_secret", system: activeSystem, enforcement },
    }),
    waiting: "Waiting until every instance accepts the key…",
    done: "API Key Generated",
    verdict: "accepted",
    subject: "",
  },
] as const;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.unstubAllGlobals();
});

function CurrentPage() {
  return <Page route={routeOf(useLocation().path)} />;
}

/** Starts a change in the console, up to the request that the test responds to. */
async function start({ path, before, buttons, mutation }: (typeof CHANGES)[number]) {
  navigate(path);
  const responses: Record<string, unknown> = { System: { system: before } };
  const permissions = ["view", "create", "edit", "delete"] as const;
  const page = show(<CurrentPage />, { permissions, responses });
  await rendered();
  for (const name of buttons) {
    page.button(name)?.click();
    await rendered();
  }
  expect(page.variablesOf(mutation)).toBeDefined();
  const statusTexts = () =>
    Array.from(
      page.root.querySelectorAll("[role=status]"),
      ({ textContent }) => textContent,
    ).join();
  return { ...page, responses, statusTexts };
}

describe.each(CHANGES)("$what", (change) => {
  const { mutation, result, buttons, waiting, done, verdict, subject } = change;
  const phrase = (text: string) => new RegExp(`${subject}${text}`, subject === "" ? "i" : "");

  test.each([
    [SINGLE, phrase(`${verdict} everywhere after less than 1 ms, on 1 instance\\.`)],
    [CLUSTER, phrase(`${verdict} everywhere after 17 ms, on 3 instances\\.`)],
    [PENDING, phrase(`not yet ${verdict} everywhere\\. It will be at \\d+:03:04`)],
  ])("shows how far the change is enforced: %o", async (enforcement, status) => {
    const { send, text, root } = await start(change);
    send(mutation, result(enforcement));
    await rendered();
    expect(text()).toContain(done);
    expect(text()).toMatch(status);
    expect(root.querySelector(".pending") !== null).toBe(enforcement.state === "PENDING");
  });

  test("shows a status after a second, and ignores a second click", async () => {
    const { send, variablesOf, statusTexts, button, text } = await start(change);
    const clicked = button(buttons[buttons.length - 1] ?? "");
    expect(clicked?.getAttribute("aria-busy")).toBe("true");
    expect(clicked?.getAttribute("aria-disabled")).toBe("true");
    expect(statusTexts()).not.toContain(waiting);
    const variables = variablesOf(mutation);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(statusTexts()).toContain(waiting);
    clicked?.click();
    await rendered();
    expect(variablesOf(mutation)).toBe(variables);

    await vi.advanceTimersByTimeAsync(11_000);
    expect(statusTexts()).toContain(waiting);
    send(mutation, result(CLUSTER));
    await rendered();
    expect(text()).toContain(done);
    expect(text()).not.toContain(waiting);
  });
});

test("the change event of a key that is being generated is not taken for another key", async () => {
  const [, , generating] = CHANGES;
  const { responses, send, text } = await start(generating);
  responses.System = { system: activeSystem };
  const appended = { ...entry, id: "e2", cursor: "2", action: "KEY_GENERATED" };
  send("AuditLogAppended", { auditLogAppended: appended });
  await rendered();
  expect(text()).toContain("abcd");
  expect(text()).not.toContain("An API key already exists. Revoke it to generate a new one.");
  expect(text()).toContain("You can revoke the key after it has been shown.");
});

test("leaving the page asks while a key is being generated, and until its dialog is closed", async () => {
  const [, , generating] = CHANGES;
  const confirm = vi.fn((_question?: string) => false);
  vi.stubGlobal("confirm", confirm);
  const { send, button, text } = await start(generating);
  navigate("/systems");
  expect(confirm).toHaveBeenCalledTimes(1);
  expect(confirm.mock.calls[0]?.[0]).toContain("is being generated");

  send(generating.mutation, generating.result(SINGLE));
  await rendered();
  navigate("/systems");
  expect(confirm).toHaveBeenCalledTimes(2);
  expect(confirm.mock.calls[1]?.[0]).toContain("shown only once");
  expect(location.pathname).toBe(generating.path);

  button("Close")?.click();
  await rendered();
  expect(text()).toContain("The key was not copied");
  button("Close")?.click();
  await rendered();
  navigate("/systems");
  expect(confirm).toHaveBeenCalledTimes(2);
  expect(location.pathname).toBe("/systems");
});
