import { useEffect, useState } from "preact/hooks";

/** Returns the value once it has not changed for `delayMs`, so that not every keystroke sends a request. */
export function useDebounced<Value>(value: Value, delayMs: number): Value {
  const [debounced, setDebounced] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setDebounced(value), delayMs);
    return () => clearTimeout(timer);
  }, [value, delayMs]);
  return debounced;
}
