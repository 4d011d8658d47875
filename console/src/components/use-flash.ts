import { useEffect, useRef, useState } from "preact/hooks";

const FLASH_MS = 2_000;

/** Returns true for `FLASH_MS` after the revision has changed, and after a new item was mounted. */
export function useFlash(revision: number, isNew = false): boolean {
  const lastRevision = useRef(isNew ? undefined : revision);
  const [on, setOn] = useState(isNew);
  useEffect(() => {
    if (lastRevision.current === revision) return;
    lastRevision.current = revision;
    setOn(true);
    const timer = setTimeout(() => setOn(false), FLASH_MS);
    return () => clearTimeout(timer);
  }, [revision]);
  return on;
}
