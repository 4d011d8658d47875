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
  | { page: "sign-in" }
  | { page: "not-found" };

export function routeOf(path: string): Route {
  const [first, second, third, ...rest] = path.split("/").filter((part) => part !== "");
  if (rest.length > 0) return { page: "not-found" };
  if (first === undefined) return { page: "systems" };
  if (first === "sign-in" && second === undefined) return { page: "sign-in" };
  if (first === "review" && second === undefined) return { page: "review" };
  if (first === "audit" && second === undefined) return { page: "audit" };
  if (first !== "systems") return { page: "not-found" };
  if (second === undefined) return { page: "systems" };
  const id = decode(second);
  if (id === undefined) return { page: "not-found" };
  if (third === "edit") return { page: "edit-system", id };
  if (third === "key") return { page: "manage-key", id };
  if (third !== undefined) return { page: "not-found" };
  return id === "new" ? { page: "create-system" } : { page: "system", id };
}

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

export function auditPath(filter: AuditLogFilter): string {
  const parameters = auditFilterParameters(filter);
  return parameters.size === 0 ? AUDIT : `${AUDIT}?${parameters}`;
}

export const reviewPath = (review: Review): string => `${REVIEW}?${reviewParameters(review)}`;

/** The sign-in page that continues at `next`. */
export const signInPath = (next: string) =>
  next === "/" || next === SYSTEMS ? SIGN_IN : `${SIGN_IN}?${new URLSearchParams({ next })}`;

/** Where to continue after signing in: always a page of this console, since anybody can craft the link. */
export function pathAfterSignIn(search: URLSearchParams): string {
  const next = search.get("next") ?? "";
  return /^\/(systems|review|audit)($|[/?])/.test(next) ? next : SYSTEMS;
}
