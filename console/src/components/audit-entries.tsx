import { useEffect, useRef, useState } from "preact/hooks";
import {
  type AuditEntryPartsFragment,
  AuditLogAppendedDocument,
  AuditLogDocument,
} from "../gql/graphql";
import { useFollowing } from "../live/use-following";
import { useLiveQuery } from "../live/use-live-query";
import { type AuditChoice, auditFilter, isNarrowed } from "../text/audit-filter";
import { AuditRow } from "./audit-row";
import { AuditTable } from "./audit-table";
import { Failed } from "./failed";
import { NewEntries } from "./new-entries";
import { NextPage } from "./next-page";
import { Skeleton } from "./skeleton";
import { TableLine } from "./table-line";

const PAGE_SIZE = 50;
/** More than this are not put on top of what is there: the newest are read instead. */
const MOST_WAITING = 500;

interface AuditEntriesProps {
  choice: AuditChoice;
  onSeen: (entries: readonly AuditEntryPartsFragment[]) => void;
}

/** The entries of a filter, newest first. What is appended waits on top until it is wanted. */
export function AuditEntries({ choice, onSeen }: AuditEntriesProps) {
  const filter = auditFilter(choice);
  const [appended, setAppended] = useState<readonly AuditEntryPartsFragment[]>([]);
  const [shownCount, setShownCount] = useState(0);
  const [reading, setReading] = useState(0);
  const read = useRef(new Set<string>());
  const ready = useFollowing({
    document: AuditLogAppendedDocument,
    variables: { filter },
    enabled: true,
    onData({ auditLogAppended: entry }) {
      if (read.current.has(entry.id)) return;
      setAppended((before) =>
        before.some(({ id }) => id === entry.id) ? before : [entry, ...before],
      );
    },
  });
  const noteRead = (entries: readonly AuditEntryPartsFragment[]) => {
    for (const { id } of entries) read.current.add(id);
    setAppended((before) => before.filter(({ id }) => !read.current.has(id)));
    onSeen(entries);
  };
  const waiting = appended.length - Math.min(shownCount, appended.length);
  const show = () => {
    if (waiting > MOST_WAITING) {
      setAppended([]);
      setShownCount(0);
      setReading((count) => count + 1);
    } else setShownCount(appended.length);
    onSeen(appended);
    scrollTo({ top: 0 });
  };
  const shown = appended.slice(waiting);
  return (
    <>
      <NewEntries count={waiting} onShow={show} />
      <AuditTable label="Audit log" withSystem>
        <tbody>
          {shown.map((entry) => (
            <AuditRow key={entry.id} entry={entry} withSystem fresh />
          ))}
        </tbody>
        {ready ? (
          <AuditPages
            key={reading}
            choice={choice}
            isFirst
            isEmpty={shown.length === 0}
            onRead={noteRead}
          />
        ) : (
          <TableLine>
            <Skeleton lines={6} />
          </TableLine>
        )}
      </AuditTable>
    </>
  );
}

interface AuditPagesProps {
  choice: AuditChoice;
  after?: string;
  isFirst?: boolean;
  /** Whether nothing stands above. */
  isEmpty: boolean;
  onRead: (entries: readonly AuditEntryPartsFragment[]) => void;
}

/** A page of entries and, once it is scrolled to, the older ones. */
function AuditPages({ choice, after, isFirst = false, isEmpty, onRead }: AuditPagesProps) {
  const [open, setOpen] = useState(false);
  const variables = {
    filter: auditFilter(choice),
    first: PAGE_SIZE,
    ...(after === undefined ? {} : { after }),
  };
  // Older pages never change.
  const policy = isFirst ? "network-only" : "cache-first";
  const [{ data, error, fetching }, execute] = useLiveQuery(AuditLogDocument, variables, policy);
  const entries = isFirst && fetching ? undefined : data?.auditLog.nodes;
  const noteRead = useRef(onRead);
  noteRead.current = onRead;
  useEffect(() => {
    if (entries !== undefined) noteRead.current(entries);
  }, [entries]);
  if (entries === undefined) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <TableLine>
        {error === undefined ? <Skeleton lines={6} /> : <Failed error={error} onRetry={retry} />}
      </TableLine>
    );
  }
  const { hasNextPage = false, endCursor = null } = data?.auditLog.pageInfo ?? {};
  return (
    <>
      <tbody>
        {entries.map((entry) => (
          <AuditRow key={entry.id} entry={entry} withSystem />
        ))}
      </tbody>
      {entries.length === 0 && isEmpty && (
        <TableLine>
          <div class="empty">
            <p>{isNarrowed(choice) ? "No entry matches." : "There are no entries yet."}</p>
          </div>
        </TableLine>
      )}
      {hasNextPage && endCursor !== null && open && (
        <AuditPages
          key={endCursor}
          choice={choice}
          after={endCursor}
          isEmpty={false}
          onRead={onRead}
        />
      )}
      {hasNextPage && !open && (
        <TableLine>
          <NextPage onReached={() => setOpen(true)} />
        </TableLine>
      )}
    </>
  );
}
