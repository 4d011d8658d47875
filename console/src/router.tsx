import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

/** Where the console is: the address, and what the page before has to say. */
export interface Place {
  path: string;
  search: URLSearchParams;
  notice: string | undefined;
}

interface Options {
  /** In place of the current entry of the history. */
  replace?: boolean;
  notice?: string;
}

const MOVED = "keymark-moved";

const place = (): Place => ({
  path: location.pathname,
  search: new URLSearchParams(location.search),
  notice: typeof history.state?.notice === "string" ? history.state.notice : undefined,
});

export function navigate(address: string, { replace = false, notice }: Options = {}): void {
  const state = notice === undefined ? null : { notice };
  if (replace) history.replaceState(state, "", address);
  else {
    history.pushState(state, "", address);
    scrollTo(0, 0);
  }
  dispatchEvent(new Event(MOVED));
}

export function usePlace(): Place {
  const [current, setCurrent] = useState(place);
  useEffect(() => {
    const follow = () => setCurrent(place());
    follow();
    addEventListener("popstate", follow);
    addEventListener(MOVED, follow);
    return () => {
      removeEventListener("popstate", follow);
      removeEventListener(MOVED, follow);
    };
  }, []);
  return current;
}

interface LinkProps {
  to: string;
  class?: string;
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
