import { SystemsTotalDocument } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Total } from "./total";
import { useRecount } from "./use-recount";

interface SystemTotalProps {
  search: string;
  /** How many changes were received that may have changed the total. */
  changes: number;
}

export function SystemTotal({ search, changes }: SystemTotalProps) {
  const [{ data, operation }, execute] = useLiveQuery(SystemsTotalDocument, { search });
  useRecount(changes, execute);
  const isCurrent = (operation?.variables.search ?? "") === search;
  return (
    <Total
      count={isCurrent ? data?.systems.totalCount : undefined}
      nouns={["system", "systems"]}
      filtered={search !== ""}
    />
  );
}
