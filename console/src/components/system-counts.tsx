import {
  SystemChangedDocument,
  type SystemFilter,
  SystemsTotalDocument,
} from "@keymark/client/documents";
import { useState } from "preact/hooks";
import { useLiveQuery } from "../live/use-live-query";
import { useLiveSubscription } from "../live/use-live-subscription";
import { listPath, reviewPath } from "../routes";
import { useSession } from "../session/session-context";
import { type Review, reviewFilter } from "../text/review";
import { DEFAULT_ORDER } from "../text/system-order";
import { OverviewCount } from "./overview-count";
import { useRecount } from "./use-recount";

const review = (kind: Review["kind"], days: number): Review => ({
  kind,
  days,
  operatorId: undefined,
  order: undefined,
});
const EXPIRING = review("expiring", 30);
const UNUSED = review("unused", 90);

/** How many systems there are, have a key, need attention, or are not needed. */
export function SystemCounts() {
  const { systemsPosition } = useSession();
  const [changes, setChanges] = useState(0);
  // Reviews filter by time, which must stay the same from one render to the next.
  const [openedAt] = useState(() => new Date());
  const ready = useLiveSubscription({
    document: SystemChangedDocument,
    variables: {},
    position: systemsPosition,
    enabled: true,
    onData: () => setChanges((count) => count + 1),
  });
  if (!ready) return null;
  const lists = [
    ["Systems", undefined, listPath("")],
    ["With a key", { keyState: "ACTIVE" }, listPath("", DEFAULT_ORDER, "ACTIVE")],
    ["Suspended", { keyState: "SUSPENDED" }, listPath("", DEFAULT_ORDER, "SUSPENDED")],
    ["Key expires within 30 days", reviewFilter(EXPIRING, openedAt), reviewPath(EXPIRING)],
    ["Not used for 90 days", reviewFilter(UNUSED, openedAt), reviewPath(UNUSED)],
  ] as const;
  return (
    <section aria-labelledby="systems">
      <h2 id="systems">Systems</h2>
      <ul class="overview">
        {lists.map(([label, filter, path]) => (
          <SystemCount key={path} label={label} filter={filter} to={path} changes={changes} />
        ))}
      </ul>
    </section>
  );
}

interface SystemCountProps {
  label: string;
  filter: SystemFilter | undefined;
  to: string;
  /** How many changes were received. */
  changes: number;
}

function SystemCount({ label, filter, to, changes }: SystemCountProps) {
  const [{ data }, execute] = useLiveQuery(SystemsTotalDocument, {
    ...(filter && { filter }),
  });
  useRecount(changes, execute);
  return <OverviewCount label={label} count={data?.systems.totalCount} to={to} />;
}
