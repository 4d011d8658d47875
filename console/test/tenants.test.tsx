// @vitest-environment happy-dom
import { describe, expect, test } from "vitest";
import { AdministrationNav } from "../src/components/administration-nav";
import { TopBar } from "../src/components/top-bar";
import { Page } from "../src/pages/page";
import { pathInOtherTenant } from "../src/routes";
import { type Action, missingPermission, permissionCode } from "../src/text/permissions";
import { readLimit, suggestedId } from "../src/text/tenants";
import { eventually } from "./support/eventually";
import { entry, show, tenant } from "./support/render";

const bar = <TopBar path="/systems" />;
const page = <Page route={{ page: "tenants" }} />;
const SWITCHER = "[popovertarget=tenant-menu]";

describe("the tenant switcher", () => {
  test.each([
    { isPlatform: true, permissions: ["view-tenants"], isShown: true },
    { isPlatform: true, permissions: ["view", "edit-tenants"], isShown: false },
    { isPlatform: false, permissions: ["view", "view-tenants"], isShown: false },
  ] satisfies { isPlatform: boolean; permissions: Action[]; isShown: boolean }[])(
    "of an operator of the platform ($isPlatform) with $permissions is shown: $isShown",
    ({ isPlatform, permissions, isShown }) => {
      const { root } = show(bar, { permissions, isPlatform });
      expect(root.querySelector(SWITCHER) !== null).toBe(isShown);
    },
  );

  test("names the tenant that the pages are about", async () => {
    const options = { permissions: ["view", "view-tenants"], isPlatform: true } as const;
    const { root } = show(bar, { ...options, tenant: "globex" });
    await eventually(() =>
      expect(root.querySelector(SWITCHER)?.textContent).toBe("Globex Corporation"),
    );
  });
});

describe("the banner", () => {
  test("names another tenant, and leads back", async () => {
    const permissions: Action[] = ["view"];
    const { text, root } = show(bar, { permissions, isPlatform: true, tenant: "globex" });
    await eventually(() => expect(text()).toContain("You are in the tenant Globex Corporation"));
    const link = Array.from(root.querySelectorAll("a")).find(
      ({ textContent }) => textContent === "Return to acme",
    );
    expect(link?.getAttribute("href")).toBe("/systems");
  });

  test.each([{}, { tenant: "acme" }])(
    "is absent in the operator's own tenant, with %o",
    (inUrl) => {
      const { root } = show(bar, { permissions: ["view"], isPlatform: true, ...inUrl });
      expect(root.querySelector("aside")).toBe(null);
    },
  );

  test("names the tenant by its id to operators who may not view it", () => {
    const { text } = show(bar, { permissions: [], isPlatform: true, tenant: "globex" });
    expect(text()).toContain("You are in the tenant globex, not in your own.");
  });

  test("says that the tenant is suspended as soon as it is", async () => {
    let suspendedAt: string | null = null;
    const responses = {
      get CurrentTenant() {
        return { tenant: { ...tenant, suspendedAt } };
      },
    };
    const permissions: Action[] = ["view"];
    const { text, send, variablesOf } = show(bar, {
      permissions,
      isPlatform: true,
      tenant: "globex",
      responses,
    });
    await eventually(() => expect(text()).toContain("Globex"));
    expect(text()).not.toContain("was suspended");
    await eventually(() => expect(variablesOf("AuditLogAppended")).toBeDefined());
    suspendedAt = "2026-03-02T12:00:00.000Z";
    send("AuditLogAppended", { auditLogAppended: { ...entry, action: "TENANT_SUSPENDED" } });
    await eventually(() => expect(text()).toContain("The tenant was suspended"));
  });
});

describe("the page Tenants", () => {
  test.each([["view-tenants"], ["edit-tenants"]] as Action[][])(
    "is linked only with tenant_management:view, not with %s",
    (permission) => {
      const nav = <AdministrationNav current="administration" />;
      const { controls } = show(nav, { permissions: [permission as Action] });
      expect(controls().includes("Tenants")).toBe(permission === "view-tenants");
    },
  );

  test("names the missing permission code", () => {
    const { text } = show(page, { permissions: ["edit-tenants"] });
    expect(text()).toContain(missingPermission(permissionCode("view-tenants")));
  });

  const CHANGES = ["Rename", "Change Policy", "Suspend", "Delete"];

  test.each([["view-tenants"], ["view-tenants", "edit-tenants"]] as Action[][])(
    "has the actions that %s %s allows",
    async (...permissions) => {
      const may = permissions.includes("edit-tenants");
      const { text, controls, root } = show(page, { permissions });
      await eventually(() => expect(text()).toContain("Globex Corporation"));
      expect(controls().includes("Create tenant")).toBe(may);
      root.querySelector<HTMLButtonElement>("button.open")?.click();
      await eventually(() => expect(text()).toContain("90 days"));
      for (const change of CHANGES) expect(controls().includes(change)).toBe(may);
    },
  );

  test("a tenant with systems, and one's own, cannot be deleted", async () => {
    const rows = [
      { ...tenant, systemCount: 3 },
      { ...tenant, id: "acme", name: "Acme", systemCount: 0 },
    ];
    const pageInfo = { hasNextPage: false, endCursor: null };
    const { text, root } = show(page, {
      permissions: ["view-tenants", "edit-tenants"],
      responses: { Tenants: { tenants: { nodes: rows, pageInfo, totalCount: 2 } } },
    });
    await eventually(() => expect(text()).toContain("Globex Corporation"));
    for (const button of root.querySelectorAll<HTMLButtonElement>("button.open")) button.click();
    await eventually(() => expect(text()).toContain("you would lock yourself out"));
    expect(text()).toContain("Delete its systems before you delete the tenant");
    const deletes = Array.from(root.querySelectorAll("button")).filter(
      ({ textContent }) => textContent === "Delete",
    );
    expect(deletes.map(({ disabled }) => disabled)).toEqual([true, true]);
  });
});

test.each([
  ["/systems", "/systems"],
  ["/systems/s1/key", "/systems"],
  ["/review", "/review"],
  ["/operators", "/operators"],
  ["/elsewhere", "/systems"],
  ["/", "/systems"],
])("switching the tenant at %s leads to %s", (path, there) => {
  expect(pathInOtherTenant(path)).toBe(there);
});

test("an id is suggested from the name", () => {
  expect(suggestedId("Acme Corp.")).toBe("acme-corp");
  expect(suggestedId("  Straße & Söhne ")).toBe("stra-e-sohne");
  expect(suggestedId("x".repeat(80)).length).toBe(63);
  expect(suggestedId("日本")).toBe("");
});

test("a limit is a whole number within its range, or nothing", () => {
  expect(readLimit("", 1, 10)).toBe(null);
  expect(readLimit(" 10 ", 1, 10)).toBe(10);
  for (const bad of ["0", "11", "1.5", "x", "-1"]) expect(readLimit(bad, 1, 10)).toBe(undefined);
});
