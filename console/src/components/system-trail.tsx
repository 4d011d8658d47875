import { useState } from "preact/hooks";
import { type AuditEntryPartsFragment, AuditLogDocument } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Link } from "../router";
import { auditAddress } from "../routes";
import { AuditRow } from "./audit-row";
import { AuditTable } from "./audit-table";
import { Failed } from "./failed";
import { NewEntries } from "./new-entries";
import { Skeleton } from "./skeleton";
import { useHold } from "./use-hold";

const LENGTH = 10;

interface SystemTrailProps {
  systemId: string;
  /** What has been appended since, newest first. */
  appended: readonly AuditEntryPartsFragment[];
}

/** The newest audit entries of a system. New ones come on top, unless somebody is at the list. */
export function SystemTrail({ systemId, appended }: SystemTrailProps) {
  const variables = { filter: { systemId }, first: LENGTH };
  const [{ data, error }, execute] = useLiveQuery(AuditLogDocument, variables);
  const { ref, held } = useHold<HTMLTableElement>();
  const [shownCount, setShownCount] = useState(0);
  const known = new Set(data?.auditLog.nodes.map(({ id }) => id));
  const added = appended.filter(({ id }) => !known.has(id));
  if (!held && shownCount !== added.length) setShownCount(added.length);
  const waiting = Math.max(0, added.length - shownCount);
  const shown = added.slice(waiting);
  return (
    <section class="trail" aria-labelledby="trail">
      <div class="section-heading">
        <h2 id="trail">Audit trail</h2>
        <NewEntries count={waiting} onShow={() => setShownCount(added.length)} />
        <Link to={auditAddress({ systemId })}>All entries</Link>
      </div>
      <AuditTable label="Audit trail" withSystem={false} tableRef={ref}>
        <tbody>
          {shown.map((entry) => (
            <AuditRow key={entry.id} entry={entry} withSystem={false} fresh />
          ))}
          {data?.auditLog.nodes.map((entry) => (
            <AuditRow key={entry.id} entry={entry} withSystem={false} />
          ))}
        </tbody>
      </AuditTable>
      {!data && error === undefined && <Skeleton lines={2} />}
      {!data && error !== undefined && (
        <Failed error={error} onRetry={() => execute({ requestPolicy: "network-only" })} />
      )}
    </section>
  );
}
