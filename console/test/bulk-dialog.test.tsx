// @vitest-environment happy-dom
import { render } from "preact";
import { beforeEach, expect, test, vi } from "vitest";
import { BulkDialog } from "../src/components/bulk-dialog";
import { rendered, show, system } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

test("nothing more is deleted once the page is left", async () => {
  const systems = [system, { ...system, id: "s2" }, { ...system, id: "s3" }];
  const dialog = <BulkDialog action="delete" systems={systems} onClose={() => undefined} />;
  const { root, send, button, variablesOf } = show(dialog, { permissions: ["delete"] });
  await rendered();
  button("Confirm")?.click();
  await rendered();
  const deleted = { deleteSystem: { deletedSystemId: "s1", enforcement: null } };
  send("DeleteSystem", deleted);
  await rendered();
  expect(variablesOf("DeleteSystem")).toEqual({ id: "s2" });

  render(null, root);
  send("DeleteSystem", deleted);
  await rendered();
  expect(variablesOf("DeleteSystem")).toEqual({ id: "s2" });
});
