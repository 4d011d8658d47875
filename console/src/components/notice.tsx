import type { ComponentChildren } from "preact";

/** Confirms an action that has just succeeded. */
export function Notice({ children }: { children: ComponentChildren }) {
  return (
    <div role="status" class={children ? "notice" : undefined}>
      {children}
    </div>
  );
}
