import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { inTenant, splitPath } from "./routes";

/** The current URL, and the notice that the previous page left for this one. */
export interface RouterLocation {
  /** The id of the tenant that the page is about; undefined for the operator's own. */
  tenant: string | undefined;
  /** The path without the prefix of the tenant. */
  path: string;
  search: URLSearchParams;
  notice: ComponentChildren;
}

/** The tenant of a URL: its id, `null` for none in the URL; the one of the current page if absent. */
type TargetTenant = string | null | undefined;

interface NavigateOptions {
  tenant?: TargetTenant;
  /** Replaces the current history entry instead of adding one. */
  replace?: boolean;
  /** Shown once, on the target page; a reload does not repeat it. */
  notice?: ComponentChildren;
}

const NAVIGATED = "keymark-navigated";

/** Called before a page is left; returns false to stay. */
type LeaveGuard = () => boolean;

let leaveGuard: LeaveGuard | undefined;
let notice: ComponentChildren;
let navigations = 0;
/** Position of the current entry in the history. */
let index = indexOf(history.state);
/** Scroll positions by history index. */
const scrollPositions = new Map<number, number>();

history.scrollRestoration = "manual";

function indexOf(state: unknown): number {
  if (typeof state !== "object" || state === null || !("index" in state)) return 0;
  return typeof state.index === "number" ? state.index : 0;
}

const currentLocation = (): RouterLocation => ({
  ...splitPath(location.pathname),
  search: new URLSearchParams(location.search),
  notice,
});

/** Whether the operator has navigated since the console was loaded; the page's heading then takes the focus. */
export const hasNavigated = (): boolean => navigations > 0;

/** Returns the URL of a page about a tenant. */
const urlOf = (page: string, tenant: TargetTenant): string =>
  inTenant(tenant === undefined ? currentLocation().tenant : (tenant ?? undefined), page);

/**
 * Goes to a page of the console, a path without the prefix of the tenant. One that differs only in its query does not
 * count as leaving the page.
 */
export function navigate(page: string, options: NavigateOptions = {}): void {
  const { replace = false, tenant } = options;
  const url = urlOf(page, tenant);
  const leavesPage = new URL(url, location.href).pathname !== location.pathname;
  if (leavesPage && leaveGuard?.() === false) return;
  if (leavesPage) {
    notice = options.notice;
    navigations += 1;
  }
  if (replace) history.replaceState({ index }, "", url);
  else {
    scrollPositions.set(index, scrollY);
    index += 1;
    history.pushState({ index }, "", url);
  }
  dispatchEvent(new Event(NAVIGATED));
  if (leavesPage) scrollTo(0, 0);
}

addEventListener("popstate", ({ state }) => {
  const target = indexOf(state);
  // The event of the `history.go` below, which undoes a refused navigation.
  if (target === index) return;
  if (leaveGuard?.() === false) {
    history.go(index - target);
    return;
  }
  scrollPositions.set(index, scrollY);
  index = target;
  notice = undefined;
  navigations += 1;
  dispatchEvent(new Event(NAVIGATED));
  // Two frames later the page is rendered from the cache and has its former height.
  requestAnimationFrame(() =>
    requestAnimationFrame(() => scrollTo(0, scrollPositions.get(target) ?? 0)),
  );
});

/** Returns the id of the tenant that the page is about; undefined for the operator's own. */
export const useTenantInUrl = (): string | undefined => useLocation().tenant;

export function useLocation(): RouterLocation {
  const [current, setCurrent] = useState(currentLocation);
  useEffect(() => {
    const update = () => setCurrent(currentLocation());
    update();
    addEventListener(NAVIGATED, update);
    return () => removeEventListener(NAVIGATED, update);
  }, []);
  return current;
}

/**
 * Asks for confirmation before the page is left in any way, while the component is mounted and has a question.
 *
 * A layout effect, so that the guard lasts exactly from the commit that shows the component to the one that removes it.
 * A plain effect runs some frames later: the page could be left without the question, or the question asked about
 * something that is no longer shown.
 */
export function useLeaveGuard(question: string | undefined): void {
  useLayoutEffect(() => {
    if (question === undefined) return;
    const mayLeave = () => confirm(question);
    const beforeUnload = (event: BeforeUnloadEvent) => event.preventDefault();
    leaveGuard = mayLeave;
    addEventListener("beforeunload", beforeUnload);
    return () => {
      if (leaveGuard === mayLeave) leaveGuard = undefined;
      removeEventListener("beforeunload", beforeUnload);
    };
  }, [question]);
}

interface LinkProps {
  /** The page, as for `navigate`. */
  to: string;
  tenant?: TargetTenant;
  class?: string;
  "aria-current"?: "page" | "true" | undefined;
  children: ComponentChildren;
}

export function Link({ to, tenant, children, ...rest }: LinkProps) {
  const follow = (event: MouseEvent) => {
    const opensElsewhere = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (event.button !== 0 || opensElsewhere) return;
    event.preventDefault();
    navigate(to, { tenant });
  };
  return (
    <a href={urlOf(to, tenant)} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

/** Replaces the current history entry with a page that has no prefix of the current tenant. */
export function Redirect({ to }: { to: string }) {
  useEffect(() => navigate(to, { replace: true, tenant: null }), [to]);
  return null;
}
