import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

/** Below this an answer is felt as one step, and words about it would only flicker. */
const SAID_AFTER_MS = 1_000;

interface StillWaitingProps {
  busy: boolean;
  /** What is waited for. */
  children: ComponentChildren;
}

/** Says what is waited for, once that takes long enough to wonder. */
export function StillWaiting({ busy, children }: StillWaitingProps) {
  const [long, setLong] = useState(false);
  useEffect(() => {
    if (!busy) return;
    const timer = setTimeout(() => setLong(true), SAID_AFTER_MS);
    return () => {
      clearTimeout(timer);
      setLong(false);
    };
  }, [busy]);
  const said = busy && long;
  // There from the start: screen readers announce what comes into a region, not a region that comes.
  return (
    <div role="status" class={said ? "still-waiting" : undefined}>
      {said && children}
    </div>
  );
}
