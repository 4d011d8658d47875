import type { KeyState, SystemOrder } from "@keymark/client/documents";
import { type AuditLogFilter, auditFilterParameters } from "./text/audit-filter";
import { type Review, reviewParameters } from "./text/review";
import { DEFAULT_ORDER, orderParameter } from "./text/system-order";

export type Route =
  | { page: "systems" }
  | { page: "create-system" }
  | { page: "system"; id: string }
  | { page: "edit-system"; id: string }
  | { page: "manage-key"; id: string }
  | { page: "review" }
  | { page: "audit" }
  | { page: AdministrationPage }
  | { page: "operator"; username: string }
  | { page: "my-sessions" }
  | { page: "sign-in" }
  | { page: "not-found" };

/** The pages that the navigation of the administration links to. */
export type AdministrationPage =
  | "administration"
  | "operators"
  | "service-tokens"
  | "verifier-tokens"
  | "tenants";

/** The pages without parts after their name in the path. */
const SINGLE_PAGES = [
  "sign-in",
  "review",
  "audit",
  "administration",
  "operators",
  "service-tokens",
  "verifier-tokens",
  "tenants",
  "my-sessions",
] as const;

/** Returns the page at a path, which has no prefix of a tenant. */
export function routeOf(path: string): Route {
  const [first, second, third, ...rest] = path.split("/").filter((part) => part !== "");
  if (rest.length > 0) return { page: "not-found" };
  if (first === undefined) return { page: "systems" };
  const single = SINGLE_PAGES.find((page) => page === first);
  if (single !== undefined && second === undefined) return { page: single };
  if (first === "operators" && second !== undefined && third === undefined) {
    const username = decode(second);
    return username === undefined ? { page: "not-found" } : { page: "operator", username };
  }
  if (first !== "systems") return { page: "not-found" };
  if (second === undefined) return { page: "systems" };
  const id = decode(second);
  if (id === undefined) return { page: "not-found" };
  if (third === "edit") return { page: "edit-system", id };
  if (third === "key") return { page: "manage-key", id };
  if (third !== undefined) return { page: "not-found" };
  return id === "new" ? { page: "create-system" } : { page: "system", id };
}

/** Splits the path of a URL into the tenant that its page is about, undefined for one's own, and the path of the page. */
export function splitPath(pathname: string): { tenant: string | undefined; path: string } {
  const [, id, path] = /^\/t\/([^/]+)(\/.*)?$/.exec(pathname) ?? [];
  const tenant = id === undefined ? undefined : decode(id);
  return tenant === undefined ? { tenant, path: pathname } : { tenant, path: path ?? "/" };
}

/** Returns the URL of a page about a tenant: `/t/acme/systems`, or without a tenant `/systems`. */
export const inTenant = (tenant: string | undefined, url: string): string =>
  tenant === undefined ? url : `/t/${encodeURIComponent(tenant)}${url}`;

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

export const SYSTEMS = "/systems";
export const NEW_SYSTEM = "/systems/new";
export const REVIEW = "/review";
export const AUDIT = "/audit";
export const ADMINISTRATION = "/administration";
export const OPERATORS = "/operators";
export const SERVICE_TOKENS = "/service-tokens";
export const VERIFIER_TOKENS = "/verifier-tokens";
export const TENANTS = "/tenants";
export const MY_SESSIONS = "/my-sessions";
export const SIGN_IN = "/sign-in";
export const systemPath = (id: string) => `/systems/${encodeURIComponent(id)}`;
export const editPath = (id: string) => `${systemPath(id)}/edit`;
export const keyPath = (id: string) => `${systemPath(id)}/key`;

export function listPath(
  search: string,
  order: SystemOrder = DEFAULT_ORDER,
  state?: KeyState,
): string {
  const parameters = new URLSearchParams();
  const sort = orderParameter(order);
  if (search !== "") parameters.set("search", search);
  if (state !== undefined) parameters.set("state", state);
  if (sort !== undefined) parameters.set("sort", sort);
  return parameters.size === 0 ? SYSTEMS : `${SYSTEMS}?${parameters}`;
}

export const operatorPath = (username: string) => `${OPERATORS}/${encodeURIComponent(username)}`;

export const operatorsPath = (search: string): string =>
  search === "" ? OPERATORS : `${OPERATORS}?${new URLSearchParams({ search })}`;

export const tenantsPath = (search: string): string =>
  search === "" ? TENANTS : `${TENANTS}?${new URLSearchParams({ search })}`;

/** The page of another tenant that corresponds to the page at a path: the same list, or that of a system or an operator. */
export function pathInOtherTenant(path: string): string {
  const { page } = routeOf(path);
  if (page === "operator") return OPERATORS;
  return SINGLE_PAGES.some((single) => single === page) ? `/${page}` : SYSTEMS;
}

export function auditPath(filter: AuditLogFilter): string {
  const parameters = auditFilterParameters(filter);
  return parameters.size === 0 ? AUDIT : `${AUDIT}?${parameters}`;
}

export const reviewPath = (review: Review): string => `${REVIEW}?${reviewParameters(review)}`;

/** The sign-in page that continues at `next`, a URL with the prefix of its tenant. */
export const signInPath = (next: string) =>
  next === "/" || next === SYSTEMS ? SIGN_IN : `${SIGN_IN}?${new URLSearchParams({ next })}`;

/** Where to continue after signing in: always a page of this console, since anybody can craft the link. */
export function pathAfterSignIn(search: URLSearchParams): string {
  const next = search.get("next") ?? "";
  // A path alone: what starts with two slashes is the URL of another host.
  if (!/^\/(?!\/)/.test(next)) return SYSTEMS;
  const [pathname = ""] = next.split(/[?#]/);
  const { page } = routeOf(splitPath(pathname).path);
  return page === "not-found" || page === "sign-in" ? SYSTEMS : next;
}
