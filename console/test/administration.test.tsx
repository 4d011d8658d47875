// @vitest-environment happy-dom
import { describe, expect, test } from "vitest";
import { PageHeading } from "../src/components/page-heading";
import { Page } from "../src/pages/page";
import { type Action, missingPermission, permissionCode } from "../src/text/permissions";
import { eventually } from "./support/eventually";
import { show } from "./support/render";

const overview = <Page route={{ page: "administration" }} />;
const ACTIONS: readonly Action[] = ["view", "view-operators", "view-tenants"];
const SETS = Array.from({ length: 2 ** ACTIONS.length }, (_, set) =>
  ACTIONS.filter((_action, bit) => set & (2 ** bit)),
);

/** What the overview counts, where it leads, and who sees it. */
const COUNTS: readonly (readonly [label: string, href: string, Action])[] = [
  ["Systems", "/systems", "view"],
  ["With a key", "/systems?state=ACTIVE", "view"],
  ["Suspended", "/systems?state=SUSPENDED", "view"],
  ["Key expires within 30 days", "/review?find=expiring&days=30", "view"],
  ["Not used for 90 days", "/review?find=unused&days=90", "view"],
  ["Operators", "/operators", "view-operators"],
  ["Service tokens", "/service-tokens", "view-operators"],
  ["Verifier tokens", "/verifier-tokens", "view-operators"],
  ["Tenants", "/tenants", "view-tenants"],
];

const responses = {
  SystemsTotal: { systems: { totalCount: 1234 } },
  OperatorsTotal: { operators: { totalCount: 3 } },
  ServiceTokensTotal: { serviceTokens: { totalCount: 4 } },
  VerifierTokensTotal: { verifierTokens: { totalCount: 5 } },
  TenantsTotal: { tenants: { totalCount: 6 } },
  Instances: {
    instances: [
      { id: "i1", isCurrent: true, state: "CACHED", renewedAt: "2026-03-01T12:00:00.000Z" },
      { id: null, isCurrent: false, state: "SILENT", renewedAt: "2026-03-01T11:00:00.000Z" },
    ],
  },
};

describe("the overview", () => {
  test.each(SETS.map((permissions) => ({ permissions })))(
    "with $permissions links what the operator may see",
    async ({ permissions }) => {
      const { root, text } = show(overview, { permissions, responses });
      const expected = COUNTS.filter(([, , action]) => permissions.includes(action));
      const links = () =>
        Array.from(root.querySelectorAll(".overview a"), (link) => [
          link.textContent,
          link.getAttribute("href"),
        ]);
      await eventually(() =>
        expect(links()).toEqual(expected.map(([label, href]) => [label, href])),
      );
      expect(text().includes(missingPermission(permissionCode("view")))).toBe(
        permissions.length === 0,
      );
    },
  );

  test("shows the numbers", async () => {
    const { root } = show(overview, { permissions: ACTIONS, responses });
    const counts = () =>
      Array.from(root.querySelectorAll(".count"), ({ textContent }) => textContent);
    const systems = new Intl.NumberFormat().format(1234);
    await eventually(() =>
      expect(counts()).toEqual([...Array(5).fill(systems), "3", "4", "5", "6"]),
    );
  });

  test("shows the instances and their state with tenant_management:view", async () => {
    const { root } = show(overview, { permissions: ["view-tenants"], responses });
    const texts = () => Array.from(root.querySelectorAll(".instances li"), (li) => li.textContent);
    await eventually(() => expect(texts().length).toBe(2));
    expect(texts()[0]).toContain("Verifies from its cacheResponds to you");
    expect(texts()[1]).toContain("Silent");
  });

  test("is where the first breadcrumb of every other page leads", () => {
    const { root } = show(<PageHeading title="Audit Log" trail={[]} />, { permissions: [] });
    const [first] = root.querySelectorAll(".breadcrumb a");
    expect([first?.textContent, first?.getAttribute("href")]).toEqual([
      "Administration",
      "/administration",
    ]);
  });
});
