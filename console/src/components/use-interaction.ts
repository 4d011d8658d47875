import { useLayoutEffect, useRef, useState } from "preact/hooks";

/**
 * Reports whether the operator interacts with an element: the pointer is over it, or keyboard focus is within it. Its
 * content must not move then. The pointer counts only once it moves: an element that appears under a resting pointer is
 * not what the operator points at.
 */
export function useInteraction<Target extends HTMLElement>() {
  const ref = useRef<Target>(null);
  const [hovered, setHovered] = useState(false);
  const [focused, setFocused] = useState(false);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const onMove = ({ pointerType, movementX, movementY }: PointerEvent) => {
      if (pointerType !== "touch" && (movementX !== 0 || movementY !== 0)) setHovered(true);
    };
    const onLeave = () => setHovered(false);
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
  return { ref, interacting: hovered || focused };
}
