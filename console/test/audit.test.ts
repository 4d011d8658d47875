import { expect, test } from "vitest";
import { auditSentence } from "../src/text/audit";
import {
  auditFilterParameters,
  exportPath,
  isFiltering,
  parseAuditFilter,
  toGraphqlFilter,
} from "../src/text/audit-filter";
import { fromLocalInput, toLocalInput } from "../src/text/time";
import { entry } from "./support/render";

const sentenceOf = (parts: Partial<typeof entry>) =>
  auditSentence({ ...entry, ...parts })
    .map((piece) => {
      if (typeof piece === "string") return piece;
      return "mark" in piece ? `…${piece.mark}` : `“${piece.name}”`;
    })
    .join("");

test.each([
  [{ action: "SYSTEM_CREATED" }, "Created the system"],
  [{ action: "SYSTEM_RENAMED", previousName: "Old" }, "Renamed the system from “Old”"],
  [{ action: "KEY_REVOKED", keyMark: "abcd" }, "Revoked the key …abcd"],
  [
    { action: "KEY_REVOKED", keyMark: "abcd", reason: "leaked" },
    "Revoked the key …abcd (reason: “leaked”)",
  ],
  [
    { action: "KEY_ROTATED", keyMark: "efgh", previousKeyMark: "abcd" },
    "Rotated the key: the new one is …efgh, and the one before is …abcd",
  ],
  [{ action: "KEY_EXPIRY_CHANGED", keyMark: "abcd" }, "Changed the end of the key …abcd: never"],
  [{ action: "TENANT_POLICY_CHANGED", count: 90 }, "Changed the longest life of keys: 90 days"],
  [
    { action: "PERMISSIONS_CHANGED", operatorName: "bob", permissions: [] },
    "Changed the permission codes of “bob” to: none",
  ],
  [
    { action: "PERMISSION_REFUSED", permissions: ["api_key_management:edit"], count: 3 },
    "Lacked the permission code api_key_management:edit (3 times)",
  ],
  [{ action: "STORE_RESTORED" }, "Restored the store from a backup, and ended all sessions"],
] as const)("%o reads as a sentence", (parts, sentence) => {
  expect(
    sentenceOf({ ...parts, permissions: "permissions" in parts ? [...parts.permissions] : null }),
  ).toBe(sentence);
});

test("a filter is the same in the URL, in GraphQL and in the export", () => {
  const parameters = new URLSearchParams(
    "systemId=s1&actions=KEY_REVOKED,NONSENSE,KEY_GENERATED&outcome=DONE&from=2026-03-01T12:00Z&x=1",
  );
  const choice = parseAuditFilter(parameters);
  expect(toGraphqlFilter(choice)).toEqual({
    systemId: "s1",
    actions: ["KEY_REVOKED", "KEY_GENERATED"],
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
  });
  expect(parseAuditFilter(auditFilterParameters(choice))).toEqual(choice);
  const address = new URL(exportPath(choice, "csv"), "http://keymark");
  expect(Object.fromEntries(address.searchParams)).toEqual({
    systemId: "s1",
    actions: "KEY_REVOKED,KEY_GENERATED",
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
    format: "csv",
  });
});

test("invalid parameters of a URL do not filter", () => {
  const choice = parseAuditFilter(
    new URLSearchParams("actions=,x&outcome=MAYBE&from=then&systemId="),
  );
  expect(isFiltering(choice)).toBe(false);
  expect(auditFilterParameters(choice).size).toBe(0);
});

test("a time is unchanged by the conversion to local time and back", () => {
  const time = "2026-03-01T12:34:00.000Z";
  expect(fromLocalInput(toLocalInput(time))).toBe(time);
  expect(toLocalInput(undefined)).toBe("");
  expect(fromLocalInput("")).toBeUndefined();
});
