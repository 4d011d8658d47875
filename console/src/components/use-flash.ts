import { useEffect, useRef, useState } from "preact/hooks";

const FLASH_MS = 2_000;

/** True for a moment after the revision has moved, and after something fresh has appeared. */
export function useFlash(revision: number, fresh = false): boolean {
  const seen = useRef(fresh ? undefined : revision);
  const [on, setOn] = useState(fresh);
  useEffect(() => {
    if (seen.current === revision) return;
    seen.current = revision;
    setOn(true);
    const timer = setTimeout(() => setOn(false), FLASH_MS);
    return () => clearTimeout(timer);
  }, [revision]);
  return on;
}
