// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { Page } from "../src/pages/page";
import { entry, rendered, show, system } from "./support/render";

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
