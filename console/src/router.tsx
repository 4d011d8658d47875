import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";

/** Where the console is: the address, and what the page before has to say. */
export interface Place {
  path: string;
  search: URLSearchParams;
  notice: ComponentChildren;
}

interface Options {
  /** In place of the current entry of the history. */
  replace?: boolean;
  /** Said once, by the page that is gone to; a reload does not repeat it. */
  notice?: ComponentChildren;
}

const MOVED = "keymark-moved";

/** Asked before a page is left; false keeps it. */
type Guard = () => boolean;

let guard: Guard | undefined;
let notice: ComponentChildren;
let navigations = 0;
let index = indexOf(history.state);
const scrolledTo = new Map<number, number>();

history.scrollRestoration = "manual";

function indexOf(state: unknown): number {
  if (typeof state !== "object" || state === null || !("index" in state)) return 0;
  return typeof state.index === "number" ? state.index : 0;
}

const place = (): Place => ({
  path: location.pathname,
  search: new URLSearchParams(location.search),
  notice,
});

/** Whether the console has moved since it was loaded: the focus then follows to the page's heading. */
export const hasNavigated = (): boolean => navigations > 0;

export function navigate(address: string, options: Options = {}): void {
  const { replace = false } = options;
  const elsewhere = new URL(address, location.href).pathname !== location.pathname;
  if (elsewhere && guard?.() === false) return;
  if (elsewhere) {
    notice = options.notice;
    navigations += 1;
  }
  if (replace) history.replaceState({ index }, "", address);
  else {
    scrolledTo.set(index, scrollY);
    index += 1;
    history.pushState({ index }, "", address);
  }
  dispatchEvent(new Event(MOVED));
  if (elsewhere) scrollTo(0, 0);
}

addEventListener("popstate", ({ state }) => {
  const to = indexOf(state);
  // Back where the page is, after a refusal: nothing is left.
  if (to === index) return;
  if (guard?.() === false) {
    history.go(index - to);
    return;
  }
  scrolledTo.set(index, scrollY);
  index = to;
  notice = undefined;
  navigations += 1;
  dispatchEvent(new Event(MOVED));
  // By then the page is rendered out of the cache, as tall as it was.
  requestAnimationFrame(() => requestAnimationFrame(() => scrollTo(0, scrolledTo.get(to) ?? 0)));
});

export function usePlace(): Place {
  const [current, setCurrent] = useState(place);
  useEffect(() => {
    const follow = () => setCurrent(place());
    follow();
    addEventListener(MOVED, follow);
    return () => removeEventListener(MOVED, follow);
  }, []);
  return current;
}

/**
 * While the component is there and has a question, leaving the page in any way asks first. From the commit that shows it to the one that
 * removes it: an effect would come and go some frames later, and meanwhile what is shown is left without asking, or a
 * question is asked about what is no longer there.
 */
export function useLeaveGuard(question: string | undefined): void {
  useLayoutEffect(() => {
    if (question === undefined) return;
    const mayLeave = () => confirm(question);
    const beforeUnload = (event: BeforeUnloadEvent) => event.preventDefault();
    guard = mayLeave;
    addEventListener("beforeunload", beforeUnload);
    return () => {
      if (guard === mayLeave) guard = undefined;
      removeEventListener("beforeunload", beforeUnload);
    };
  }, [question]);
}

interface LinkProps {
  to: string;
  class?: string;
  "aria-current"?: "page" | undefined;
  children: ComponentChildren;
}

export function Link({ to, children, ...rest }: LinkProps) {
  const follow = (event: MouseEvent) => {
    const elsewhere = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (event.button !== 0 || elsewhere) return;
    event.preventDefault();
    navigate(to);
  };
  return (
    <a href={to} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

/** Goes on to another address, leaving no trace of this one. */
export function Redirect({ to }: { to: string }) {
  useEffect(() => navigate(to, { replace: true }), [to]);
  return null;
}
