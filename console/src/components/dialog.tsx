import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface DialogProps {
  title: string;
  /** Called on Escape; undefined while Escape must not close the dialog. */
  onEscape: (() => void) | undefined;
  children: ComponentChildren;
}

/** A modal dialog. It traps the focus and returns it on closing; a click outside does not close it. */
export function Dialog({ title, onEscape, children }: DialogProps) {
  const id = useId();
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  // Chromium closes the dialog on a second Escape even if `cancel` was prevented, so the key itself is prevented.
  const onKeyDown = (event: KeyboardEvent) => {
    // The Enter that opened the dialog, held down, must not confirm it.
    if (event.key === "Enter" && event.repeat) event.preventDefault();
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
