// @vitest-environment happy-dom
import { describe, expect, test } from "vitest";
import { TopBar } from "../src/components/top-bar";
import { Page } from "../src/pages/page";
import type { Action } from "../src/text/permissions";
import { missingPermission, permissionCode } from "../src/text/permissions";
import { eventually } from "./support/eventually";
import { show } from "./support/render";

const ACTIONS: readonly Action[] = ["view", "create", "edit", "delete"];

/** All 16 sets of permissions. */
const SETS = Array.from({ length: 2 ** ACTIONS.length }, (_, set) =>
  ACTIONS.filter((_action, bit) => set & (2 ** bit)),
);

const missing = (action: Action) => missingPermission(permissionCode(action));

describe.each(SETS.map((permissions) => ({ permissions, name: permissions.join(", ") || "none" })))(
  "with $name",
  ({ permissions }) => {
    const may = (action: Action) => permissions.includes(action);
    const either = (action: Action, other: Action) => may(action) || may(other);

    test("the top bar links to the review and the audit log only with view", () => {
      const { controls } = show(<TopBar path="/systems" />, { permissions });
      expect(controls().includes("Review")).toBe(may("view"));
      expect(controls().includes("Audit Log")).toBe(may("view"));
    });

    test("the list is shown only with view, and Create API key only with create", async () => {
      const { text, controls, root } = show(<Page route={{ page: "systems" }} />, { permissions });
      await eventually(() => expect(text()).toContain(may("view") ? "Billing" : missing("view")));
      expect(text().includes("Billing")).toBe(may("view"));
      expect(root.querySelector("input[type=search]") !== null).toBe(may("view"));
      expect(controls().includes("Create API key")).toBe(may("create"));
    });

    test("the form to create a system is shown only with create", () => {
      const { text, controls } = show(<Page route={{ page: "create-system" }} />, { permissions });
      expect(controls().includes("Submit")).toBe(may("create"));
      expect(text().includes(missing("create"))).toBe(!may("create"));
    });

    // A system is visible with the permission to view all, or because the operator has created it.
    for (const created of [[], ["s1"]]) {
      const sees = may("view") || created.length > 0;
      const loaded = sees ? "Billing" : missing("view");
      const which = created.length > 0 ? "a system that they created" : "a system";
      const options = { permissions, created };

      test(`the page of ${which} has the controls that the permissions allow`, async () => {
        const route = { page: "system", id: "s1" } as const;
        const { text, controls } = show(<Page route={route} />, options);
        await eventually(() => expect(text()).toContain(loaded));
        expect(text().includes("Billing")).toBe(sees);
        expect(controls().includes("Manage API Key")).toBe(sees && either("create", "edit"));
        expect(controls().includes("Edit")).toBe(sees && may("edit"));
        expect(controls().includes("Suspend")).toBe(sees && may("edit"));
        expect(controls().includes("Delete System")).toBe(sees && may("delete"));
        if (may("view")) await eventually(() => expect(text()).toContain("Created the system"));
        expect(text().includes("Audit trail")).toBe(may("view"));
      });

      test(`the form to rename ${which} is shown only with edit`, async () => {
        const route = { page: "edit-system", id: "s1" } as const;
        const { text, controls, root } = show(<Page route={route} />, options);
        const expected = sees && !may("edit") ? missing("edit") : sees ? "System Name" : loaded;
        await eventually(() => expect(text()).toContain(expected));
        expect(controls().includes("Save")).toBe(sees && may("edit"));
        expect(root.querySelector("input")?.value).toBe(
          sees && may("edit") ? "Billing" : undefined,
        );
      });

      test(`the key of ${which} can be generated only with create and revoked only with edit`, async () => {
        const route = { page: "manage-key", id: "s1" } as const;
        const { text, controls } = show(<Page route={route} />, options);
        await eventually(() => expect(text()).toContain(loaded));
        expect(controls().includes("Generate API Key")).toBe(sees && may("create"));
        expect(controls().includes("Revoke API Key")).toBe(sees && may("edit"));
        expect(controls().includes("Rotate Key")).toBe(sees && may("create") && may("edit"));
        expect(controls().includes("Change Expiry")).toBe(sees && may("edit"));
        expect(text().includes(missing("create"))).toBe(sees && !either("create", "edit"));
      });
    }

    test("the review is shown only with view, and its actions by permission", async () => {
      const { text, controls } = show(<Page route={{ page: "review" }} />, { permissions });
      await eventually(() => expect(text()).toContain(may("view") ? "Billing" : missing("view")));
      expect(controls().includes("Suspend")).toBe(may("view") && may("edit"));
      expect(controls().includes("Revoke API Keys")).toBe(may("view") && may("edit"));
      expect(controls().includes("Delete Systems")).toBe(may("view") && may("delete"));
    });

    test("the audit log and its export are shown only with view", async () => {
      const { text, controls } = show(<Page route={{ page: "audit" }} />, { permissions });
      await eventually(() =>
        expect(text()).toContain(may("view") ? "Created the system" : missing("view")),
      );
      for (const control of ["CSV", "JSON Lines"]) {
        expect(controls().includes(control)).toBe(may("view"));
      }
    });
  },
);
