import { expect, test } from "vitest";
import {
  inTenant,
  keyPath,
  listPath,
  operatorPath,
  pathAfterSignIn,
  routeOf,
  signInPath,
  splitPath,
  systemPath,
} from "../src/routes";

test("the address of an operator leads to their page", () => {
  const username = "alice+ops@acme";
  expect(routeOf(operatorPath(username))).toEqual({ page: "operator", username });
});

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
  ["/administration", { page: "administration" }],
  ["/operators", { page: "operators" }],
  ["/operators/alice%2Bops@acme", { page: "operator", username: "alice+ops@acme" }],
  ["/operators/alice/key", { page: "not-found" }],
  ["/service-tokens", { page: "service-tokens" }],
  ["/verifier-tokens", { page: "verifier-tokens" }],
  ["/tenants", { page: "tenants" }],
  ["/tenants/acme", { page: "not-found" }],
  ["/my-sessions", { page: "my-sessions" }],
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

test.each([
  ["/systems", undefined, "/systems"],
  ["/t/acme/systems/s1", "acme", "/systems/s1"],
  ["/t/acme", "acme", "/"],
  ["/t/acme/", "acme", "/"],
  ["/t/a%2Fb/audit", "a/b", "/audit"],
  ["/t//systems", undefined, "/t//systems"],
  ["/t/%E0%A4%A/systems", undefined, "/t/%E0%A4%A/systems"],
  ["/tenants", undefined, "/tenants"],
])("%s is about the tenant %s", (pathname, tenant, path) => {
  expect(splitPath(pathname)).toEqual({ tenant, path });
});

test("a URL in a tenant is parsed to the tenant and the page", () => {
  expect(splitPath(inTenant("a/b c", "/systems/s1"))).toEqual({
    tenant: "a/b c",
    path: "/systems/s1",
  });
  expect(inTenant(undefined, "/systems")).toBe("/systems");
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

test.each(["/t/acme/systems?search=x", "/t/acme/", "/administration", "/t/acme/audit#x"])(
  "signing in continues at %s",
  (next) => {
    expect(pathAfterSignIn(new URLSearchParams({ next }))).toBe(next);
  },
);

test.each([
  "https://elsewhere.example",
  "//elsewhere.example",
  "/graphql",
  "/systemsandmore",
  "/\\elsewhere.example/systems",
  "/t/acme/graphiql",
  "/t//elsewhere.example/systems",
  "/sign-in",
  "/t/acme/sign-in",
  "javascript:alert(1)",
  "",
])("signing in does not continue at %s", (next) => {
  expect(pathAfterSignIn(new URLSearchParams({ next }))).toBe("/systems");
});
