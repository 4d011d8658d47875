import { expect, test } from "vitest";
import { compareNames, isFound, matchesSearch } from "../src/text/names";

test("names are ordered by code point, ignoring case", () => {
  const names = ["zeta", "Beta", "alpha", "😀 app", "ﬁle", "beta 2", "ｚ wide", "Éclair"];
  expect(names.toSorted(compareNames)).toEqual([
    "alpha",
    "Beta",
    "beta 2",
    "ﬁle",
    "ｚ wide",
    "zeta",
    "Éclair",
    "😀 app",
  ]);
});

test.each([
  ["Straße", "STRASSE"],
  ["Straße", "ss"],
  ["ΣΊΣΥΦΟΣ", "σίσυφος"],
  ["Σίσυφος", "ΣΊΣ"],
  ["anything", ""],
  ["a.*b", ".*"],
])("%s is found by %s", (name, search) => {
  expect(matchesSearch(name, search)).toBe(true);
});

test("a search is not a pattern", () => {
  expect(matchesSearch("billing", "b.*g")).toBe(false);
});

test("a system is found by its name, its description and its external ID", () => {
  const system = { name: "Billing", description: "Sends invoices", externalId: "Cus_42" };
  for (const search of ["bill", "INVOICES", "cus_4"]) expect(isFound(system, search)).toBe(true);
  expect(isFound(system, "gcus")).toBe(false);
  expect(isFound({ name: "Billing", description: null, externalId: null }, "null")).toBe(false);
});
