import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface DialogProps {
  title: string;
  /** What Escape does; undefined while it may do nothing. */
  onEscape: (() => void) | undefined;
  children: ComponentChildren;
}

/** A modal dialog: it traps the focus and gives it back, and no click beside it closes it. */
export function Dialog({ title, onEscape, children }: DialogProps) {
  const id = useId();
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  // Chromium lets a second Escape through even where `cancel` is refused: the key itself is refused instead.
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    onEscape?.();
  };
  const onCancel = (event: Event) => {
    event.preventDefault();
    onEscape?.();
  };
  return (
    <dialog ref={ref} aria-labelledby={id} onKeyDown={onKeyDown} onCancel={onCancel}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}
