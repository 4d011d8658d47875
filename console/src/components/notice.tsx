import type { ComponentChildren } from "preact";

/** What has just been done. */
export function Notice({ children }: { children: ComponentChildren }) {
  return (
    <div role="status" class={children ? "notice" : undefined}>
      {children}
    </div>
  );
}
