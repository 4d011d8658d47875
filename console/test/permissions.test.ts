import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { allowedBy, permissionCodes } from "../src/text/permissions";

test("each permission code of the schema has a sentence that says what it allows", () => {
  const schema = readFileSync("../schema.graphql", "utf8");
  const required = [...schema.matchAll(/@requiresPermission\(code: "(.+?)"\)/g)].map(
    ([, code]) => code,
  );
  const known = permissionCodes(true);
  expect(required.length).toBeGreaterThan(0);
  for (const code of required) expect(known.map(({ code: one }) => one)).toContain(code);
  for (const { code, allows } of known) {
    expect(allows).toMatch(/^[A-Z].+\.$/);
    expect(allowedBy(code)).toBe(allows);
  }
});

test("codes to manage tenants can be held only on the platform", () => {
  const codes = (isPlatform: boolean) => permissionCodes(isPlatform).map(({ code }) => code);
  const others = codes(true).filter((code) => !codes(false).includes(code));
  expect(others).toEqual(["tenant_management:view", "tenant_management:edit"]);
});
