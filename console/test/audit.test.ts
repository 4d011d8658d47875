import { expect, test } from "vitest";
import { auditSentence } from "../src/text/audit";
import { auditDetails } from "../src/text/audit-details";
import {
  auditFilterParameters,
  exportPath,
  isFiltering,
  parseAuditFilter,
  toGraphqlFilter,
} from "../src/text/audit-filter";
import { PERIODS } from "../src/text/period";
import { fromLocalInput, timeZoneName, toLocalInput } from "../src/text/time";
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
    { action: "KEY_REVOKED", keyMark: "wxyz", previousKeyMark: "abcd" },
    "Revoked the keys …wxyz and …abcd",
  ],
  [
    { action: "KEY_REVOKED", keyMark: "abcd", reason: "leaked" },
    "Revoked the key …abcd (reason: “leaked”)",
  ],
  [
    { action: "KEY_ROTATED", keyMark: "efgh", previousKeyMark: "abcd" },
    "Rotated the key: the new one is …efgh, and the one before is …abcd",
  ],
  [{ action: "KEY_EXPIRY_CHANGED", keyMark: "abcd" }, "Changed the end of the key …abcd: never"],
  [
    { action: "TENANT_POLICY_CHANGED", count: 90 },
    "Changed the policy of the tenant; the longest life of keys is 90 days",
  ],
  [
    { action: "PERMISSIONS_CHANGED", operatorName: "bob", permissions: [] },
    "Changed the permission codes of “bob” to: none",
  ],
  [
    { action: "PERMISSION_REFUSED", permissions: ["api_key_management:edit"], count: 3 },
    "Lacked the permission code api_key_management:edit (3 times)",
  ],
  [{ action: "STORE_RESTORED" }, "Restored the store from a backup, and ended all sessions"],
  [{ action: "TENANT_RENAMED", tenantName: "Acme" }, "Renamed the tenant to “Acme”"],
  [{ action: "SESSIONS_ENDED", operatorName: "bob", count: 3 }, "Ended 3 sessions of “bob”"],
  [
    {
      action: "SERVICE_TOKEN_CREATED",
      tokenName: "backend",
      permissions: ["api_key_management:view"],
    },
    "Created the service token “backend”, permission codes: api_key_management:view",
  ],
  [{ action: "VERIFIER_TOKEN_REVOKED", tokenName: "edge" }, "Revoked the verifier token “edge”"],
] as const)("%o reads as a sentence", (parts, sentence) => {
  expect(
    sentenceOf({ ...parts, permissions: "permissions" in parts ? [...parts.permissions] : null }),
  ).toBe(sentence);
});

test("a filter is the same in the URL, in GraphQL and in the export", () => {
  const parameters = new URLSearchParams(
    "systemId=s1&keyMark=abcd&actions=KEY_REVOKED,NONSENSE,KEY_GENERATED&outcome=DONE&from=2026-03-01T12:00Z&x=1",
  );
  const choice = parseAuditFilter(parameters);
  expect(toGraphqlFilter(choice)).toEqual({
    systemId: "s1",
    keyMark: "abcd",
    actions: ["KEY_REVOKED", "KEY_GENERATED"],
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
  });
  expect(parseAuditFilter(auditFilterParameters(choice))).toEqual(choice);
  const address = new URL(exportPath(choice, "csv", "acme"), "http://keymark");
  expect(Object.fromEntries(address.searchParams)).toEqual({
    systemId: "s1",
    keyMark: "abcd",
    actions: "KEY_REVOKED,KEY_GENERATED",
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
    format: "csv",
    tenant: "acme",
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

test("the details of an entry are everything that it holds", () => {
  const details = auditDetails(
    {
      ...entry,
      number: 12,
      action: "PERMISSION_REFUSED",
      outcome: "REFUSED",
      errorCode: "FORBIDDEN",
      permissions: ["api_key_management:edit"],
      keyExpiresAt: "2026-04-01T12:00:00.000Z",
    },
    "en",
  );
  const labels = details.map(([label]) => label);
  const held = Object.values(entry).filter((value) => value !== null);
  // The cursor is the number in another form; the actor has a kind, an id and a name.
  expect(labels.length).toBe(held.length - 1 + 2 + ["errorCode", "permissions", "end"].length);
  expect(new Set(labels).size).toBe(labels.length);
  const detail = (label: string) => details.find(([known]) => known === label)?.[1];
  expect(detail("Number")).toBe("12");
  expect(detail("Error code")).toBe("FORBIDDEN");
  expect(detail("Permission codes")).toBe("api_key_management:edit");
  expect(detail("Time")).toContain("(2026-03-01T12:00:00.000Z)");
  expect(detail("Request ID")).toBe("r1");
  expect(detail("Hash")).toBe("00ff");
  expect(detail("Reason")).toBeUndefined();
  expect(detail("Acted for")).toBeUndefined();
  const ofPlatform = { ...entry, actor: { ...entry.actor, isPlatform: true } };
  expect(auditDetails(ofPlatform, "en")).toContainEqual(["Acted for", "the platform"]);
});

test("the periods start an hour, a day's begin, 7 and 30 days before now", () => {
  const now = new Date(2026, 2, 31, 15, 30);
  expect(PERIODS.map(([name, start]) => [name, start(now)])).toEqual([
    ["Last hour", new Date(2026, 2, 31, 14, 30)],
    ["Today", new Date(2026, 2, 31)],
    ["Last 7 days", new Date(now.getTime() - 7 * 24 * 3_600_000)],
    ["Last 30 days", new Date(now.getTime() - 30 * 24 * 3_600_000)],
  ]);
});

test("the time zone has a name and an offset", () => {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  const name = timeZoneName(new Date("2026-03-01T12:00:00.000Z"), "en");
  expect(name.startsWith(`${timeZone} (GMT`)).toBe(true);
});
