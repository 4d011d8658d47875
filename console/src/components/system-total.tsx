import { type SystemFilter, SystemsTotalDocument } from "@keymark/client/documents";
import { useLiveQuery } from "../live/use-live-query";
import { Total } from "./total";
import { useRecount } from "./use-recount";

interface SystemTotalProps {
  search: string;
  filter: SystemFilter | undefined;
  /** How many changes were received that may have changed the total. */
  changes: number;
}

export function SystemTotal({ search, filter, changes }: SystemTotalProps) {
  const [{ data, operation }, execute] = useLiveQuery(SystemsTotalDocument, {
    search,
    ...(filter && { filter }),
  });
  useRecount(changes, execute);
  const isCurrent =
    (operation?.variables.search ?? "") === search &&
    operation?.variables.filter?.keyState === filter?.keyState;
  return (
    <Total
      count={isCurrent ? data?.systems.totalCount : undefined}
      nouns={["system", "systems"]}
      filtered={search !== "" || filter !== undefined}
    />
  );
}
