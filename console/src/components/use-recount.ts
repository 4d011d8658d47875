import type { UseQueryExecute } from "@urql/preact";
import { useEffect, useRef } from "preact/hooks";
import { useDebounced } from "./use-debounced";

/** Changes within this time are counted together. */
const DEBOUNCE_MS = 500;

/** Runs a query that counts something again after each change. */
export function useRecount(changes: number, execute: UseQueryExecute): void {
  const settled = useDebounced(changes, DEBOUNCE_MS);
  const counted = useRef(settled);
  useEffect(() => {
    if (counted.current === settled) return;
    counted.current = settled;
    execute({ requestPolicy: "network-only" });
  }, [settled, execute]);
}
