import { expect, test } from "vitest";
import {
  addressAfterSignIn,
  keyAddress,
  listAddress,
  routeOf,
  signInAddress,
  systemAddress,
} from "../src/routes";

test.each([
  ["/", { page: "systems" }],
  ["/systems", { page: "systems" }],
  ["/systems/", { page: "systems" }],
  ["/systems/new", { page: "create-system" }],
  ["/systems/s1", { page: "system", id: "s1" }],
  ["/systems/s1/key", { page: "manage-key", id: "s1" }],
  ["/systems/s1/edit", { page: "edit-system", id: "s1" }],
  ["/audit", { page: "audit" }],
  ["/audit/export", { page: "not-found" }],
  ["/systems/s1/other", { page: "not-found" }],
  ["/systems/s1/key/more", { page: "not-found" }],
  ["/systems/%E0%A4%A", { page: "not-found" }],
  ["/sign-in", { page: "sign-in" }],
  ["/elsewhere", { page: "not-found" }],
])("%s", (path, route) => {
  expect(routeOf(path)).toEqual(route);
});

test("an address leads back to its page", () => {
  const id = "a/b?c d";
  expect(routeOf(systemAddress(id))).toEqual({ page: "system", id });
  expect(routeOf(keyAddress(id))).toEqual({ page: "manage-key", id });
});

test("a search is kept in the address as it was typed", () => {
  const address = listAddress("a&b=c #+ ü");
  expect(new URL(address, "http://keymark").searchParams.get("search")).toBe("a&b=c #+ ü");
  expect(listAddress("")).toBe("/systems");
});

test("signing in leads on to the page that was asked for", () => {
  const address = signInAddress("/systems/s1/key?x=1");
  const { searchParams } = new URL(address, "http://keymark");
  expect(addressAfterSignIn(searchParams)).toBe("/systems/s1/key?x=1");
  expect(signInAddress("/")).toBe("/sign-in");
});

test.each([
  "https://elsewhere.example",
  "//elsewhere.example",
  "/graphql",
  "/systemsandmore",
  "javascript:alert(1)",
  "",
])("signing in does not lead on to %s", (next) => {
  expect(addressAfterSignIn(new URLSearchParams({ next }))).toBe("/systems");
});
