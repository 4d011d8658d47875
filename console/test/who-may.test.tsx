// @vitest-environment happy-dom
import { describe, expect, test } from "vitest";
import { Page } from "../src/pages/page";
import type { Route } from "../src/routes";
import { type Action, missingPermission, permissionCode } from "../src/text/permissions";
import { eventually } from "./support/eventually";
import { entry, serviceToken, show } from "./support/render";

const ACTIONS: readonly Action[] = ["view", "view-operators", "edit-operators"];

const SETS = Array.from({ length: 2 ** ACTIONS.length }, (_, set) =>
  ACTIONS.filter((_action, bit) => set & (2 ** bit)),
);

const PAGES: readonly (readonly [Route, loaded: string, controls: string[]])[] = [
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
  },
);

const all: Action[] = ["view", "view-operators", "edit-operators"];

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
