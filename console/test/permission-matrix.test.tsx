// @vitest-environment happy-dom
import type { ComponentChildren } from "preact";
import { afterEach, describe, expect, test } from "vitest";
import { TopBar } from "../src/components/top-bar";
import { Page } from "../src/pages/page";
import type { Action } from "../src/text/permissions";
import { missingPermission, permissionCode } from "../src/text/permissions";
import { eventually } from "./support/eventually";
import { show } from "./support/render";

const ACTIONS: readonly Action[] = ["view", "create", "edit", "delete"];

/** All 16 sets of codes. */
const SETS = Array.from({ length: 2 ** ACTIONS.length }, (_, set) =>
  ACTIONS.filter((_action, bit) => set & (2 ** bit)),
);

let unmount: (() => void) | undefined;
afterEach(() => unmount?.());

function shown(children: ComponentChildren, codes: readonly Action[], created: string[] = []) {
  const page = show(children, { codes, created });
  unmount = page.unmount;
  return page;
}

const words = (action: Action) => missingPermission(permissionCode(action));

describe.each(SETS.map((codes) => ({ codes, name: codes.join(", ") || "no code" })))(
  "with $name",
  ({ codes }) => {
    const may = (action: Action) => codes.includes(action);
    const either = (action: Action, other: Action) => may(action) || may(other);

    test("the bar leads to the audit log only with view", () => {
      expect(
        shown(<TopBar path="/systems" />, codes)
          .controls()
          .includes("Audit Log"),
      ).toBe(may("view"));
    });

    test("the list is there only with view, and Create API key only with create", async () => {
      const { text, controls, root } = shown(<Page route={{ page: "systems" }} />, codes);
      await eventually(() => expect(text()).toContain(may("view") ? "Billing" : words("view")));
      expect(text().includes("Billing")).toBe(may("view"));
      expect(root.querySelector("input[type=search]") !== null).toBe(may("view"));
      expect(controls().includes("Create API key")).toBe(may("create"));
    });

    test("the form that creates is there only with create", () => {
      const { text, controls } = shown(<Page route={{ page: "create-system" }} />, codes);
      expect(controls().includes("Submit")).toBe(may("create"));
      expect(text().includes(words("create"))).toBe(!may("create"));
    });

    // Seen by the code to see all, or because the operator has created it.
    for (const created of [[], ["s1"]]) {
      const sees = may("view") || created.length > 0;
      const settled = sees ? "Billing" : words("view");
      const which = created.length > 0 ? "a system of their own" : "a system";

      test(`the page of ${which} has the controls of the codes`, async () => {
        const route = { page: "system", id: "s1" } as const;
        const { text, controls } = shown(<Page route={route} />, codes, created);
        await eventually(() => expect(text()).toContain(settled));
        expect(text().includes("Billing")).toBe(sees);
        expect(controls().includes("Manage API Key")).toBe(sees && either("create", "edit"));
        expect(controls().includes("Edit")).toBe(sees && may("edit"));
        expect(controls().includes("Delete System")).toBe(sees && may("delete"));
        if (may("view")) await eventually(() => expect(text()).toContain("Created the system"));
        expect(text().includes("Audit trail")).toBe(may("view"));
      });

      test(`the form that renames ${which} is there only with edit`, async () => {
        const route = { page: "edit-system", id: "s1" } as const;
        const { text, controls, root } = shown(<Page route={route} />, codes, created);
        const expected = sees && !may("edit") ? words("edit") : sees ? "System Name" : settled;
        await eventually(() => expect(text()).toContain(expected));
        expect(controls().includes("Save")).toBe(sees && may("edit"));
        expect(root.querySelector("input")?.value).toBe(
          sees && may("edit") ? "Billing" : undefined,
        );
      });

      test(`the key of ${which} is generated only with create and revoked only with edit`, async () => {
        const route = { page: "manage-key", id: "s1" } as const;
        const { text, controls } = shown(<Page route={route} />, codes, created);
        await eventually(() => expect(text()).toContain(settled));
        expect(controls().includes("Generate API Key")).toBe(sees && may("create"));
        expect(controls().includes("Revoke API Key")).toBe(sees && may("edit"));
        expect(text().includes(words("create"))).toBe(sees && !either("create", "edit"));
      });
    }

    test("the audit log and its export are there only with view", async () => {
      const { text, controls } = shown(<Page route={{ page: "audit" }} />, codes);
      await eventually(() =>
        expect(text()).toContain(may("view") ? "Created the system" : words("view")),
      );
      for (const control of ["CSV", "JSON Lines"]) {
        expect(controls().includes(control)).toBe(may("view"));
      }
    });
  },
);
