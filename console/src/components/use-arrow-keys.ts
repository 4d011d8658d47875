import type { RefObject } from "preact";
import { useEffect } from "preact/hooks";

const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1 };

/** Lets the arrow keys move the focus between the controls of a menu, as Tab does. */
export function useArrowKeys(menu: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    const element = menu.current;
    if (element === null) return;
    const onKeyDown = (event: KeyboardEvent) => {
      const step = STEPS[event.key];
      if (step === undefined) return;
      const controls: (Element | null)[] = [...element.querySelectorAll("input, a, button")];
      const next = controls[controls.indexOf(document.activeElement) + step];
      if (!(next instanceof HTMLElement)) return;
      event.preventDefault();
      next.focus();
    };
    element.addEventListener("keydown", onKeyDown);
    return () => element.removeEventListener("keydown", onKeyDown);
  }, [menu]);
}
