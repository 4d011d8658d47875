import { useLayoutEffect, useRef, useState } from "preact/hooks";

/**
 * Whether the operator is at an element: the pointer rests on it or the keyboard is in it. What is under the pointer
 * must not move then. A pointer that was there before the element came does not count: nobody aimed at it.
 */
export function useHold<Held extends HTMLElement>() {
  const ref = useRef<Held>(null);
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const onMove = ({ pointerType, movementX, movementY }: PointerEvent) => {
      if (pointerType !== "touch" && (movementX !== 0 || movementY !== 0)) setPointed(true);
    };
    const onLeave = () => setPointed(false);
    const onFocusIn = ({ target }: FocusEvent) =>
      setFocused(target instanceof Element && target.matches(":focus-visible"));
    const onFocusOut = () => setFocused(false);
    element.addEventListener("pointermove", onMove);
    element.addEventListener("pointerleave", onLeave);
    element.addEventListener("focusin", onFocusIn);
    element.addEventListener("focusout", onFocusOut);
    return () => {
      element.removeEventListener("pointermove", onMove);
      element.removeEventListener("pointerleave", onLeave);
      element.removeEventListener("focusin", onFocusIn);
      element.removeEventListener("focusout", onFocusOut);
    };
  }, []);
  return { ref, held: pointed || focused };
}
