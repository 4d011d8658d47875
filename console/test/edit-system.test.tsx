// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { entry, refused, rendered, show, system } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

test("a key that is generated in the meantime does not conflict with a rename", async () => {
  const responses: Record<string, unknown> = {};
  const route = { page: "edit-system", id: system.id } as const;
  const { send, button, type, variablesOf } = show(<Page route={route} />, {
    permissions: ["view", "edit"],
    responses,
  });
  await rendered();
  type("Mine");

  responses.System = { system: { ...system, keyState: "ACTIVE", keyMark: "abcd", revision: 2 } };
  const appended = { ...entry, id: "e2", cursor: "2", action: "KEY_GENERATED" };
  send("AuditLogAppended", { auditLogAppended: appended });
  await rendered();
  button("Save")?.click();
  await rendered();
  button("Confirm")?.click();
  await rendered();
  expect(variablesOf("RenameSystem")).toEqual({ id: "s1", name: "Mine", expectedRevision: 2 });
});

test("what fails after the rename was saved is said, and conflicts with changes in between", async () => {
  const responses: Record<string, unknown> = {};
  const route = { page: "edit-system", id: system.id } as const;
  const { root, send, button, type, text, variablesOf } = show(<Page route={route} />, {
    permissions: ["view", "edit"],
    responses,
  });
  await rendered();
  type("Mine");
  await rendered();
  const description = root.querySelector("textarea");
  if (description === null) throw new Error("there is no description");
  description.value = "Described";
  description.dispatchEvent(new Event("input", { bubbles: true }));
  await rendered();
  button("Save")?.click();
  await rendered();
  button("Confirm")?.click();
  await rendered();

  // Another operator has changed the system since the rename, which is revision 2.
  const renamed = { ...system, name: "Mine", revision: 3 };
  responses.System = { system: renamed };
  const appended = { ...entry, id: "e2", cursor: "2", action: "SYSTEM_RENAMED" };
  send("AuditLogAppended", { auditLogAppended: appended });
  send("RenameSystem", { renameSystem: { system: renamed } });
  await rendered();
  expect(variablesOf("DescribeSystem")).toEqual({
    id: "s1",
    description: "Described",
    expectedRevision: 2,
  });
  send("DescribeSystem", refused("CONFLICT"));
  await rendered();
  expect(text()).toContain("Another operator changed this system in the meantime.");
});
