import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

/** Faster responses feel immediate, and a status text for them would only flicker. */
const DELAY_MS = 1_000;

interface DelayedStatusProps {
  busy: boolean;
  children: ComponentChildren;
}

/** Shows its children while busy for longer than `DELAY_MS`. */
export function DelayedStatus({ busy, children }: DelayedStatusProps) {
  const [delayed, setDelayed] = useState(false);
  useEffect(() => {
    if (!busy) return;
    const timer = setTimeout(() => setDelayed(true), DELAY_MS);
    return () => {
      clearTimeout(timer);
      setDelayed(false);
    };
  }, [busy]);
  const visible = busy && delayed;
  // Always in the document: screen readers announce changes within a live region, not a new region.
  return (
    <div role="status" class={visible ? "delayed-status" : undefined}>
      {visible && children}
    </div>
  );
}
