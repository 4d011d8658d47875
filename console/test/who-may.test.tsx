// @vitest-environment happy-dom
import { describe, expect, test, vi } from "vitest";
import { now } from "../src/live/now";
import { Page } from "../src/pages/page";
import type { Route } from "../src/routes";
import { type Action, missingPermission, permissionCode } from "../src/text/permissions";
import { eventually } from "./support/eventually";
import { entry, operator, rendered, serviceToken, show } from "./support/render";

const ACTIONS: readonly Action[] = ["view", "view-operators", "edit-operators"];

const SETS = Array.from({ length: 2 ** ACTIONS.length }, (_, set) =>
  ACTIONS.filter((_action, bit) => set & (2 ** bit)),
);

const PAGES: readonly (readonly [Route, loaded: string, controls: string[]])[] = [
  [{ page: "operators" }, "bob", ["Add operator"]],
  [
    { page: "operator", username: "bob" },
    "Firefox 140 on Linux",
    ["Change codes", "Reset password", "Suspend", "Remove operator", "End all sessions"],
  ],
  [{ page: "service-tokens" }, "Backend", ["Create token", "Rotate Backend", "Revoke Backend"]],
  [{ page: "verifier-tokens" }, "Edge proxy", ["Create token", "Revoke Edge proxy"]],
];

describe.each(SETS.map((permissions) => ({ permissions, name: permissions.join(", ") || "none" })))(
  "with $name",
  ({ permissions }) => {
    const may = (action: Action) => permissions.includes(action);

    test.each(PAGES)(
      "the page $page has the controls that the permissions allow",
      async (route, loaded, changes) => {
        const { text, controls } = show(<Page route={route} />, { permissions });
        const missing = missingPermission(permissionCode("view-operators"));
        await eventually(() => expect(text()).toContain(may("view-operators") ? loaded : missing));
        expect(text().includes(loaded)).toBe(may("view-operators"));
        for (const control of changes) {
          expect(controls().includes(control)).toBe(may("view-operators") && may("edit-operators"));
        }
      },
    );

    test("the operator's own page shows what they may do, and where they are signed in", async () => {
      const { text, controls, root } = show(<Page route={{ page: "my-sessions" }} />, {
        permissions,
      });
      await eventually(() => expect(text()).toContain("This session"));
      for (const action of ACTIONS)
        expect(text().includes(permissionCode(action))).toBe(may(action));
      expect(controls()).toContain("End all other sessions");
      expect(root.querySelectorAll("tbody tr").length).toBe(2);
      expect(controls()).toContain("End the session of Firefox 140 on Linux");
      expect(root.querySelectorAll("tbody button").length).toBe(1);
    });
  },
);

const all: Action[] = ["view", "view-operators", "edit-operators"];

test("only codes that the operator holds can be given, and all can be taken away", async () => {
  const { button, root } = show(<Page route={{ page: "operator", username: "bob" }} />, {
    permissions: all,
  });
  await eventually(() => expect(button("Change codes")).toBeDefined());
  button("Change codes")?.click();
  await eventually(() => expect(root.querySelector("dialog")).not.toBeNull());
  const boxes = Array.from(root.querySelectorAll<HTMLInputElement>("dialog input"));
  expect(boxes.length).toBe(6);
  for (const box of boxes) {
    const choice = box.closest(".choice");
    const code = choice?.querySelector("label")?.textContent ?? "";
    const mayGive = all.map(permissionCode).includes(code);
    expect(box.disabled).toBe(!mayGive && !operator.permissions.includes(code));
    expect(choice?.textContent?.includes("You do not hold this code")).toBe(!mayGive);
    expect(box.checked).toBe(operator.permissions.includes(code));
  }
});

test("only operators of the platform can add others, who can hold its codes", async () => {
  for (const isPlatform of [false, true]) {
    const { button, root } = show(<Page route={{ page: "operators" }} />, {
      permissions: all,
      isPlatform,
    });
    await eventually(() => expect(button("Add operator")).toBeDefined());
    button("Add operator")?.click();
    await eventually(() => expect(root.querySelector("dialog")).not.toBeNull());
    const labels = () =>
      Array.from(root.querySelectorAll("dialog label"), ({ textContent }) => textContent);
    expect(labels().includes("Operator of the platform")).toBe(isPlatform);
    expect(labels()).not.toContain("tenant_management:edit");
    if (!isPlatform) continue;
    root.querySelector<HTMLInputElement>("dialog [type=checkbox]")?.click();
    await eventually(() => expect(labels()).toContain("tenant_management:edit"));
  }
});

test("a list is loaded again after another operator's change", async () => {
  let nodes = [serviceToken];
  const { text, send } = show(<Page route={{ page: "service-tokens" }} />, {
    permissions: all,
    responses: {
      get ServiceTokens() {
        const pageInfo = { hasNextPage: false, endCursor: null };
        return { serviceTokens: { nodes, pageInfo, totalCount: nodes.length } };
      },
    },
  });
  await eventually(() => expect(text()).toContain("1 service token"));
  nodes = [serviceToken, { ...serviceToken, id: "t3", name: "Reports" }];
  send("AuditLogAppended", { auditLogAppended: { ...entry, action: "SERVICE_TOKEN_CREATED" } });
  await eventually(() => expect(text()).toContain("Reports"));
  expect(text()).toContain("2 service tokens");
});

test("a list is loaded again as time passes, for who may not see the audit log", async () => {
  vi.useFakeTimers();
  let nodes = [operator];
  const { text } = show(<Page route={{ page: "operators" }} />, {
    permissions: ["view-operators"],
    responses: {
      get Operators() {
        const pageInfo = { hasNextPage: false, endCursor: null };
        return { operators: { nodes, pageInfo, totalCount: nodes.length } };
      },
    },
  });
  await rendered();
  expect(text()).toContain("bob");
  nodes = [];
  now.update(() => new Date());
  await rendered();
  expect(text()).toContain("There are no operators.");
});

test("the one-time password of an operator is shown, and stays until it is copied", async () => {
  vi.useFakeTimers();
  const { button, root, send, text } = show(
    <Page route={{ page: "operator", username: "bob" }} />,
    {
      permissions: all,
    },
  );
  await rendered();
  button("Reset password")?.click();
  await rendered();
  button("Confirm")?.click();
  await rendered();
  const enforcement = { state: "ENFORCED", elapsedMs: 1, instances: 1, enforcedNoLaterThan: null };
  send("ResetOperatorPassword", {
    resetOperatorPassword: { operator, password: "once-only-password", enforcement },
  });
  await rendered();
  expect(text()).toContain("Password Reset");
  expect(root.querySelector("textarea")?.value).toBe("once-only-password");
  button("Close")?.click();
  await rendered();
  expect(text()).toContain("The password was not copied");
  button("Close")?.click();
  await rendered();
  expect(root.querySelector("dialog")).toBeNull();
  expect(root.innerHTML).not.toContain("once-only-password");
  expect(text()).toContain("The password was reset.");
});
