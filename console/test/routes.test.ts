import { expect, test } from "vitest";
import { keyPath, listPath, pathAfterSignIn, routeOf, signInPath, systemPath } from "../src/routes";

test.each([
  ["/", { page: "systems" }],
  ["/systems", { page: "systems" }],
  ["/systems/", { page: "systems" }],
  ["/systems/new", { page: "create-system" }],
  ["/systems/s1", { page: "system", id: "s1" }],
  ["/systems/s1/key", { page: "manage-key", id: "s1" }],
  ["/systems/s1/edit", { page: "edit-system", id: "s1" }],
  ["/review", { page: "review" }],
  ["/review/s1", { page: "not-found" }],
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

test("a path is parsed to the page that it was built for", () => {
  const id = "a/b?c d";
  expect(routeOf(systemPath(id))).toEqual({ page: "system", id });
  expect(routeOf(keyPath(id))).toEqual({ page: "manage-key", id });
});

test("a search is kept in the URL as it was typed", () => {
  const path = listPath("a&b=c #+ ü");
  expect(new URL(path, "http://keymark").searchParams.get("search")).toBe("a&b=c #+ ü");
  expect(listPath("")).toBe("/systems");
});

test("signing in continues at the page that was requested", () => {
  const path = signInPath("/systems/s1/key?x=1");
  const { searchParams } = new URL(path, "http://keymark");
  expect(pathAfterSignIn(searchParams)).toBe("/systems/s1/key?x=1");
  expect(signInPath("/")).toBe("/sign-in");
});

test.each([
  "https://elsewhere.example",
  "//elsewhere.example",
  "/graphql",
  "/systemsandmore",
  "javascript:alert(1)",
  "",
])("signing in does not continue at %s", (next) => {
  expect(pathAfterSignIn(new URLSearchParams({ next }))).toBe("/systems");
});
