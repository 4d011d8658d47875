import { expect, test } from "vitest";
import { auditSentence } from "../src/text/audit";
import {
  auditChoice,
  auditFilter,
  auditParameters,
  exportAddress,
  isNarrowed,
} from "../src/text/audit-filter";
import { fromLocalInput, toLocalInput } from "../src/text/time";
import { entry } from "./support/render";

const said = (parts: Partial<typeof entry>) =>
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
    { action: "PERMISSIONS_CHANGED", operatorName: "bob", permissions: [] },
    "Changed the permission codes of “bob” to: none",
  ],
  [
    { action: "PERMISSION_REFUSED", permissions: ["api_key_management:edit"], count: 3 },
    "Lacked the permission code api_key_management:edit (3 times)",
  ],
] as const)("%o is said in words", (parts, words) => {
  expect(
    said({ ...parts, permissions: "permissions" in parts ? [...parts.permissions] : null }),
  ).toBe(words);
});

test("a filter is the same in the address, for GraphQL and for the export", () => {
  const parameters = new URLSearchParams(
    "systemId=s1&actions=KEY_REVOKED,NONSENSE,KEY_GENERATED&outcome=DONE&from=2026-03-01T12:00Z&x=1",
  );
  const choice = auditChoice(parameters);
  expect(auditFilter(choice)).toEqual({
    systemId: "s1",
    actions: ["KEY_REVOKED", "KEY_GENERATED"],
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
  });
  expect(auditChoice(auditParameters(choice))).toEqual(choice);
  const address = new URL(exportAddress(choice, "csv"), "http://keymark");
  expect(Object.fromEntries(address.searchParams)).toEqual({
    systemId: "s1",
    actions: "KEY_REVOKED,KEY_GENERATED",
    outcome: "DONE",
    from: "2026-03-01T12:00:00.000Z",
    format: "csv",
  });
});

test("what makes no sense in an address narrows nothing", () => {
  const choice = auditChoice(new URLSearchParams("actions=,x&outcome=MAYBE&from=then&systemId="));
  expect(isNarrowed(choice)).toBe(false);
  expect(auditParameters(choice).size).toBe(0);
});

test("a moment survives the field that shows it in local time", () => {
  const moment = "2026-03-01T12:34:00.000Z";
  expect(fromLocalInput(toLocalInput(moment))).toBe(moment);
  expect(toLocalInput(undefined)).toBe("");
  expect(fromLocalInput("")).toBeUndefined();
});
