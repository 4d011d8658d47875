import { type AuditEntryPartsFragment, AuditLogDocument } from "@keymark/client/documents";
import { useState } from "preact/hooks";
import { useLiveQuery } from "../live/use-live-query";
import { Link } from "../router";
import { auditPath } from "../routes";
import { AuditRow } from "./audit-row";
import { AuditTable } from "./audit-table";
import { LoadError } from "./load-error";
import { NewEntries } from "./new-entries";
import { Skeleton } from "./skeleton";
import { useInteraction } from "./use-interaction";

const LENGTH = 10;

/** The variables of the query for the newest entries of a system. */
export const trailVariables = (systemId: string) => ({ filter: { systemId }, first: LENGTH });

interface SystemAuditTrailProps {
  systemId: string;
  /** The entries appended since the page was opened, newest first. */
  appended: readonly AuditEntryPartsFragment[];
}

/** The newest audit entries of a system. New ones appear on top, or on request while the operator interacts with it. */
export function SystemAuditTrail({ systemId, appended }: SystemAuditTrailProps) {
  const [{ data, error }, execute] = useLiveQuery(AuditLogDocument, trailVariables(systemId));
  const { ref, interacting } = useInteraction<HTMLTableElement>();
  const [shownCount, setShownCount] = useState(0);
  const loadedIds = new Set(data?.auditLog.nodes.map(({ id }) => id));
  const added = appended.filter(({ id }) => !loadedIds.has(id));
  if (!interacting && shownCount !== added.length) setShownCount(added.length);
  const hiddenCount = Math.max(0, added.length - shownCount);
  const shown = added.slice(hiddenCount);
  return (
    <section class="trail" aria-labelledby="trail">
      <div class="section-heading">
        <h2 id="trail">Audit trail</h2>
        <NewEntries count={hiddenCount} onShow={() => setShownCount(added.length)} />
        <Link to={auditPath({ systemId })}>All entries</Link>
      </div>
      <AuditTable label="Audit trail" showSystem={false} tableRef={ref}>
        <tbody>
          {shown.map((entry) => (
            <AuditRow key={entry.id} entry={entry} showSystem={false} isNew />
          ))}
          {data?.auditLog.nodes.map((entry) => (
            <AuditRow key={entry.id} entry={entry} showSystem={false} />
          ))}
        </tbody>
      </AuditTable>
      {!data && error === undefined && <Skeleton lines={2} />}
      {!data && error !== undefined && (
        <LoadError error={error} onRetry={() => execute({ requestPolicy: "network-only" })} />
      )}
    </section>
  );
}
