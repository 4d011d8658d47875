// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { rendered, rotatingSystem, show } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
  vi.setSystemTime("2026-03-03T11:50:00.000Z");
});

const keyUse = (key: typeof rotatingSystem.currentKey, lastUsedAt: string, accepted: number) => ({
  ...key,
  lastUsedAt,
  usage: { accepted },
});

/** Shows a rotation ten minutes before its end, with the last uses of both keys. */
async function showRotation(oldUse: string, newUse: string) {
  const system = {
    id: "s1",
    lastUsedAt: newUse,
    currentKey: keyUse(rotatingSystem.currentKey, newUse, 5),
    retiringKey: keyUse(rotatingSystem.retiringKey, oldUse, 70),
    lastKey: null,
  };
  const shown = show(<Page route={{ page: "system", id: "s1" }} />, {
    permissions: ["view"],
    responses: { System: { system: rotatingSystem }, SystemUse: { system } },
  });
  await rendered();
  return shown;
}

test("a rotation shows when each key was last used, and the calls with each", async () => {
  const { text, root } = await showRotation("2026-03-03T09:50:00.000Z", "2026-03-03T11:49:50.000Z");
  expect(text()).toContain("No call with ••••abcd for 2 hours");
  expect(text()).toContain("Calls with ••••wxyz within the last minute");
  expect(text()).not.toContain("still in use");
  const charts = Array.from(root.querySelectorAll("svg"), (svg) => svg.getAttribute("aria-label"));
  expect(charts).toEqual(["0 calls in the last 10 minutes", "0 calls in the last 10 minutes"]);
});

test("a rotation warns while the old key is in use near its end", async () => {
  const { root } = await showRotation("2026-03-03T11:45:00.000Z", "2026-03-03T11:49:50.000Z");
  const warning = root.querySelector(".rotation [role=alert]");
  expect(warning?.textContent).toContain("The old key ends soon and is still in use.");
});
