import { AuditTotalDocument } from "@keymark/client/documents";
import { useLiveQuery } from "../live/use-live-query";
import { type AuditLogFilter, isFiltering, toGraphqlFilter } from "../text/audit-filter";
import { Total } from "./total";
import { useRecount } from "./use-recount";

interface AuditTotalProps {
  filter: AuditLogFilter;
  /** How often entries were added to the list. */
  changes: number;
}

export function AuditTotal({ filter, changes }: AuditTotalProps) {
  const variables = { filter: toGraphqlFilter(filter) };
  const [{ data, fetching }, execute] = useLiveQuery(AuditTotalDocument, variables, "network-only");
  useRecount(changes, execute);
  return (
    <Total
      count={fetching ? undefined : data?.auditLog.totalCount}
      nouns={["entry", "entries"]}
      filtered={isFiltering(filter)}
    />
  );
}
