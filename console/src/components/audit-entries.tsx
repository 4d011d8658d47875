import {
  type AuditEntryPartsFragment,
  AuditLogAppendedDocument,
  AuditLogDocument,
} from "@keymark/client/documents";
import { useEffect, useRef, useState } from "preact/hooks";
import { useLiveQuery } from "../live/use-live-query";
import { useLiveSubscription } from "../live/use-live-subscription";
import { type AuditLogFilter, isFiltering, toGraphqlFilter } from "../text/audit-filter";
import { AuditRow } from "./audit-row";
import { AuditTable } from "./audit-table";
import { LoadError } from "./load-error";
import { NewEntries } from "./new-entries";
import { ScrollSentinel } from "./scroll-sentinel";
import { Skeleton } from "./skeleton";
import { TableMessage } from "./table-message";

const PAGE_SIZE = 50;
/** With more new entries than this, the log is reloaded instead of adding them on top. */
const MAX_NEW_ENTRIES = 500;

interface AuditEntriesProps {
  filter: AuditLogFilter;
  /** Called with the entries that are loaded or shown. */
  onEntries: (entries: readonly AuditEntryPartsFragment[]) => void;
  /** Called when entries that were appended are shown. */
  onAdded: () => void;
}

/** The entries that match a filter, newest first. Entries that are appended later are shown on request. */
export function AuditEntries({ filter, onEntries, onAdded }: AuditEntriesProps) {
  const [appended, setAppended] = useState<readonly AuditEntryPartsFragment[]>([]);
  const [shownCount, setShownCount] = useState(0);
  const [reloads, setReloads] = useState(0);
  const loadedIds = useRef(new Set<string>());
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: toGraphqlFilter(filter) },
    enabled: true,
    onData({ auditLogAppended: entry }) {
      if (loadedIds.current.has(entry.id)) return;
      setAppended((before) =>
        before.some(({ id }) => id === entry.id) ? before : [entry, ...before],
      );
    },
  });
  const onLoaded = (entries: readonly AuditEntryPartsFragment[]) => {
    for (const { id } of entries) loadedIds.current.add(id);
    setAppended((before) => before.filter(({ id }) => !loadedIds.current.has(id)));
    onEntries(entries);
  };
  const hiddenCount = appended.length - Math.min(shownCount, appended.length);
  const showNewEntries = () => {
    if (hiddenCount > MAX_NEW_ENTRIES) {
      setAppended([]);
      setShownCount(0);
      setReloads((count) => count + 1);
    } else setShownCount(appended.length);
    onEntries(appended);
    onAdded();
    scrollTo({ top: 0 });
  };
  const shown = appended.slice(hiddenCount);
  return (
    <>
      <NewEntries count={hiddenCount} onShow={showNewEntries} />
      <AuditTable label="Audit log" showSystem>
        <tbody>
          {shown.map((entry) => (
            <AuditRow key={entry.id} entry={entry} showSystem isNew />
          ))}
        </tbody>
        {ready ? (
          <AuditPages
            key={reloads}
            filter={filter}
            isFirst
            isEmpty={shown.length === 0}
            onLoaded={onLoaded}
          />
        ) : (
          <TableMessage>
            <Skeleton lines={6} />
          </TableMessage>
        )}
      </AuditTable>
    </>
  );
}

interface AuditPagesProps {
  filter: AuditLogFilter;
  after?: string;
  isFirst?: boolean;
  /** Whether no entry is shown above this page. */
  isEmpty: boolean;
  onLoaded: (entries: readonly AuditEntryPartsFragment[]) => void;
}

/** A page of entries and, once its end is scrolled to, the older ones. */
function AuditPages({ filter, after, isFirst = false, isEmpty, onLoaded }: AuditPagesProps) {
  const [open, setOpen] = useState(false);
  const variables = {
    filter: toGraphqlFilter(filter),
    first: PAGE_SIZE,
    ...(after === undefined ? {} : { after }),
  };
  // Older pages never change.
  const policy = isFirst ? "network-only" : "cache-first";
  const [{ data, error, fetching }, execute] = useLiveQuery(AuditLogDocument, variables, policy);
  const entries = isFirst && fetching ? undefined : data?.auditLog.nodes;
  const latest = useRef(onLoaded);
  latest.current = onLoaded;
  useEffect(() => {
    if (entries !== undefined) latest.current(entries);
  }, [entries]);
  if (entries === undefined) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <TableMessage>
        {error === undefined ? <Skeleton lines={6} /> : <LoadError error={error} onRetry={retry} />}
      </TableMessage>
    );
  }
  const { hasNextPage = false, endCursor = null } = data?.auditLog.pageInfo ?? {};
  return (
    <>
      <tbody>
        {entries.map((entry) => (
          <AuditRow key={entry.id} entry={entry} showSystem />
        ))}
      </tbody>
      {entries.length === 0 && isEmpty && (
        <TableMessage>
          <div class="empty">
            <p>
              {isFiltering(filter) ? "No entries match the filter." : "There are no entries yet."}
            </p>
          </div>
        </TableMessage>
      )}
      {hasNextPage && endCursor !== null && open && (
        <AuditPages
          key={endCursor}
          filter={filter}
          after={endCursor}
          isEmpty={false}
          onLoaded={onLoaded}
        />
      )}
      {hasNextPage && !open && (
        <TableMessage>
          <ScrollSentinel onReached={() => setOpen(true)} />
        </TableMessage>
      )}
    </>
  );
}
