import { SystemDocument, type SystemPartsFragment } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useRef } from "preact/hooks";

interface ShownRow {
  row: SystemPartsFragment;
  isNew: boolean;
  isDeleted: boolean;
}

interface FrozenRows {
  rows: ShownRow[];
  /** Whether the shown rows differ from the newest ones. */
  outdated: boolean;
}

interface Shown {
  list: string;
  rows: readonly SystemPartsFragment[];
  /** The ids of the rows that were there when the list was first shown. */
  initialIds: Set<string>;
}

/**
 * Returns the rows to show. While `frozen`, no row is added, removed or moved, but the contents of rows stay up to date
 * and deleted rows are marked. `list` identifies the list; a different one is shown immediately.
 */
export function useFrozenRows(
  newest: readonly SystemPartsFragment[],
  list: string,
  frozen: boolean,
): FrozenRows {
  const client = useClient();
  const shown = useRef<Shown>(undefined);
  const last = shown.current?.list === list ? shown.current : undefined;
  const changed = last !== undefined && !isSameOrder(last.rows, newest);
  // An empty list has no rows to keep in place.
  const outdated = frozen && changed && last.rows.length > 0;
  const current: Shown = {
    list,
    rows: outdated ? last.rows : newest,
    initialIds: last?.initialIds ?? new Set(newest.map(({ id }) => id)),
  };
  shown.current = current;
  const newestById = outdated ? new Map(newest.map((row) => [row.id, row])) : undefined;
  const rows = current.rows.map((row): ShownRow => {
    const isNew = !current.initialIds.has(row.id);
    const updated = newestById === undefined ? row : newestById.get(row.id);
    if (updated !== undefined) return { row: updated, isNew, isDeleted: false };
    // No longer in the list: deleted, or renamed to where this page does not reach.
    const cached = client.readQuery(
      SystemDocument,
      { id: row.id },
      { requestPolicy: "cache-only" },
    );
    const system = cached?.data?.system;
    return { row: system ?? row, isNew, isDeleted: system === null };
  });
  return { rows, outdated };
}

const isSameOrder = (
  left: readonly SystemPartsFragment[],
  right: readonly SystemPartsFragment[],
): boolean => left.length === right.length && left.every(({ id }, at) => id === right[at]?.id);
