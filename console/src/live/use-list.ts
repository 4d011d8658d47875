import type { AuditAction } from "@keymark/client/documents";
import type { CombinedError } from "@urql/core";
import { useEffect, useRef, useState } from "preact/hooks";
import { useChanges } from "./use-changes";

const FIRST_ROWS = 50;
/** The server returns no longer pages. */
const MAX_PAGE_SIZE = 200;

export interface ListPage<Row> {
  nodes: readonly Row[];
  pageInfo: { hasNextPage: boolean; endCursor: string | null };
  totalCount: number;
}

interface ListOptions<Row> {
  /** Loads a page of the list, from the server. */
  load: (page: {
    first: number;
    after: string | null;
  }) => Promise<{ page: ListPage<Row> | undefined; error: CombinedError | undefined }>;
  /** What is searched for. Another text loads the list anew; until then the rows before are returned. */
  search?: string;
  /** The actions after which the list may be different. */
  actions: readonly AuditAction[];
  /** False if the list is too expensive to be loaded now and then. */
  polls?: boolean;
}

export interface List<Row> {
  /** Undefined while the first page is loading. */
  rows: readonly Row[] | undefined;
  hasMore: boolean;
  totalCount: number | undefined;
  error: CombinedError | undefined;
  loadMore: () => void;
  reload: () => void;
}

interface Loaded<Row> {
  rows: readonly Row[];
  hasMore: boolean;
  totalCount: number;
}

/** Keeps a list up to date by loading its shown part again after each change: for lists that are short. */
export function useList<Row>(options: ListOptions<Row>): List<Row> {
  const { search = "", actions, polls = true } = options;
  const [loaded, setLoaded] = useState<Loaded<Row>>();
  const [error, setError] = useState<CombinedError>();
  const wanted = useRef(FIRST_ROWS);
  const loading = useRef(false);
  /** Whether there was a change after the request that is in flight. */
  const again = useRef(false);
  const latest = useRef(options);
  latest.current = options;

  const reload = async () => {
    again.current = true;
    if (loading.current) return;
    loading.current = true;
    while (again.current) {
      again.current = false;
      const result = await loadRows(latest.current.load, wanted.current);
      if (again.current) continue;
      setError("error" in result ? result.error : undefined);
      if (!("error" in result)) setLoaded(result);
    }
    loading.current = false;
  };
  const ready = useChanges(actions, () => void reload(), { polls });
  const latestReload = useRef(reload);
  latestReload.current = reload;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another search loads another list.
  useEffect(() => {
    wanted.current = FIRST_ROWS;
    if (ready) void latestReload.current();
  }, [ready, search]);
  return {
    rows: loaded?.rows,
    hasMore: loaded?.hasMore ?? false,
    totalCount: loaded?.totalCount,
    error,
    loadMore() {
      // Twice as many, so that the requests for a long list are few.
      wanted.current = Math.max(wanted.current, (loaded?.rows.length ?? 0) * 2);
      void reload();
    },
    reload: () => void reload(),
  };
}

/** Loads rows from the start of a list. */
async function loadRows<Row>(
  load: ListOptions<Row>["load"],
  count: number,
): Promise<Loaded<Row> | { error: CombinedError | undefined }> {
  const rows: Row[] = [];
  let after: string | null = null;
  for (;;) {
    const first = Math.min(MAX_PAGE_SIZE, count - rows.length);
    const { page, error } = await load({ first, after });
    if (page === undefined) return { error };
    rows.push(...page.nodes);
    const { hasNextPage, endCursor } = page.pageInfo;
    if (!hasNextPage || rows.length >= count || endCursor === null) {
      return { rows, hasMore: hasNextPage, totalCount: page.totalCount };
    }
    after = endCursor;
  }
}
