// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { entry, show, system } from "./support/render";

let unmount = () => {};
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  unmount();
  vi.useRealTimers();
});

test("a key that is generated meanwhile does not stand in the way of a new name", async () => {
  const answers: Record<string, unknown> = {};
  const route = { page: "edit-system", id: system.id } as const;
  const page = show(<Page route={route} />, { codes: ["view", "edit"], answers });
  unmount = page.unmount;
  const button = (name: string) =>
    Array.from(page.root.querySelectorAll("button")).find(
      ({ textContent }) => textContent === name,
    );
  const rendered = () => vi.advanceTimersByTimeAsync(100);
  await rendered();
  const field = page.root.querySelector("input");
  if (field !== null) field.value = "Mine";
  field?.dispatchEvent(new Event("input", { bubbles: true }));

  answers.System = { system: { ...system, keyState: "ACTIVE", keyMark: "abcd", revision: 2 } };
  const news = { ...entry, id: "e2", cursor: "2", action: "KEY_GENERATED" };
  page.send("AuditLogAppended", { auditLogAppended: news });
  await rendered();
  button("Save")?.click();
  await rendered();
  button("Confirm")?.click();
  await rendered();
  expect(page.asked("RenameSystem")).toEqual({ id: "s1", name: "Mine", expectedRevision: 2 });
});
