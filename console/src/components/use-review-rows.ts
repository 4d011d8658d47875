import {
  ReviewDocument,
  type ReviewRowFragment,
  SystemChangedDocument,
  type SystemFilter,
} from "@keymark/client/documents";
import type { CombinedError } from "@urql/core";
import { useClient } from "@urql/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useLiveSubscription } from "../live/use-live-subscription";
import { useSession } from "../session/session-context";
import { isBackward, type Review, reviewFilter, reviewOrder } from "../text/review";

const PAGE_SIZE = 100;

export interface ReviewedRow {
  system: ReviewRowFragment;
  isDeleted: boolean;
}

interface ReviewRows {
  rows: readonly ReviewedRow[];
  /** Undefined while the first page is loading. */
  hasMore: boolean | undefined;
  error: CombinedError | undefined;
  /** Undefined while the review is not completely chosen. */
  filter: SystemFilter | undefined;
  loadMore: () => void;
}

/**
 * Loads the systems of a review, page by page. The rows stay in place while the operator works through them; what they
 * show is up to date, and deleted ones are marked. The review must not change while the component is mounted.
 */
export function useReviewRows(review: Review): ReviewRows {
  const client = useClient();
  const { systemsPosition, refetchCount } = useSession();
  const [filter] = useState(() => reviewFilter(review, new Date()));
  const [rows, setRows] = useState<readonly ReviewedRow[]>([]);
  const [cursor, setCursor] = useState<string | null>();
  const [error, setError] = useState<CombinedError>();
  const loading = useRef(false);
  const ready = useLiveSubscription({
    document: SystemChangedDocument,
    variables: {},
    position: systemsPosition,
    enabled: true,
    onData({ systemChanged: { systemId, system } }) {
      setRows((before) =>
        before.map((row) => {
          if (row.system.id !== systemId) return row;
          return system === null
            ? { ...row, isDeleted: true }
            : { ...row, system: { ...row.system, ...system } };
        }),
      );
    },
  });

  const load = async (from: string | null) => {
    if (filter === undefined || loading.current) return;
    loading.current = true;
    setError(undefined);
    const backward = isBackward(review);
    const page = backward ? { last: PAGE_SIZE, before: from } : { first: PAGE_SIZE, after: from };
    const { data, error: failure } = await client.query(
      ReviewDocument,
      { filter, orderBy: reviewOrder(review), ...page },
      { requestPolicy: "network-only" },
    );
    loading.current = false;
    if (!data) {
      setError(failure);
      return;
    }
    const { nodes, pageInfo } = data.systems;
    // Read from the end, the systems that were never used come first.
    const found = backward
      ? [...nodes].reverse().filter(({ lastUsedAt }) => lastUsedAt === null)
      : nodes;
    const added = found.map((system) => ({ system, isDeleted: false }));
    setRows((before) => (from === null ? added : [...before, ...added]));
    const next = backward ? pageInfo.hasPreviousPage : pageInfo.hasNextPage;
    const end = backward ? pageInfo.startCursor : pageInfo.endCursor;
    setCursor(next && found.length === nodes.length ? end : null);
  };
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (ready) void latest.current(null);
  }, [ready]);
  // Changes that were missed may concern any row.
  useEffect(() => refetchCount.observe(() => void latest.current(null)), [refetchCount]);
  return {
    rows,
    hasMore: cursor === undefined ? undefined : cursor !== null,
    error,
    filter,
    loadMore: () => void load(cursor ?? null),
  };
}
