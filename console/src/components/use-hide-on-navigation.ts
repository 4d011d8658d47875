import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useLocation } from "../router";

/** Hides an open popover when a link in it was followed: unlike a click outside, that does not hide it. */
export function useHideOnNavigation(popover: RefObject<HTMLElement | null>, open: boolean): void {
  const location = useLocation();
  const last = useRef(location);
  useEffect(() => {
    if (open && last.current !== location) popover.current?.hidePopover();
    last.current = location;
  }, [location, open, popover]);
}
