import { useEffect, useRef } from "preact/hooks";
import { SystemsTotalDocument } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Total } from "./total";
import { useDebounced } from "./use-debounced";

interface SystemTotalProps {
  search: string;
  /** How many changes were received that may have changed the total. */
  changes: number;
}

/** Changes within this time are counted together. */
const DEBOUNCE_MS = 500;

export function SystemTotal({ search, changes }: SystemTotalProps) {
  const [{ data, operation }, execute] = useLiveQuery(SystemsTotalDocument, { search });
  const settled = useDebounced(changes, DEBOUNCE_MS);
  const counted = useRef(settled);
  useEffect(() => {
    if (counted.current === settled) return;
    counted.current = settled;
    execute({ requestPolicy: "network-only" });
  }, [settled, execute]);
  const isCurrent = (operation?.variables.search ?? "") === search;
  return (
    <Total
      count={isCurrent ? data?.systems.totalCount : undefined}
      nouns={["system", "systems"]}
      filtered={search !== ""}
    />
  );
}
