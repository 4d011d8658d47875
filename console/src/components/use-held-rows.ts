import { useClient } from "@urql/preact";
import { useRef } from "preact/hooks";
import { SystemDocument, type SystemPartsFragment } from "../gql/graphql";

interface HeldRow {
  row: SystemPartsFragment;
  fresh: boolean;
  deleted: boolean;
}

interface HeldRows {
  rows: HeldRow[];
  /** Whether there are rows elsewhere than they are shown. */
  waiting: boolean;
}

interface Shown {
  list: string;
  rows: readonly SystemPartsFragment[];
  known: Set<string>;
}

/**
 * The rows of a list, which stay where they are while they are held: what they say is up to date, and one that is
 * deleted says so, but none comes, goes or moves. `list` names what is listed: another list is shown at once.
 */
export function useHeldRows(
  newest: readonly SystemPartsFragment[],
  list: string,
  held: boolean,
): HeldRows {
  const client = useClient();
  const shown = useRef<Shown>(undefined);
  const last = shown.current?.list === list ? shown.current : undefined;
  const moved = last !== undefined && !isSameOrder(last.rows, newest);
  // Where there was no row, none can move.
  const keeps = held && moved && last.rows.length > 0;
  const current: Shown = {
    list,
    rows: keeps ? last.rows : newest,
    known: last?.known ?? new Set(newest.map(({ id }) => id)),
  };
  shown.current = current;
  const byId = keeps ? new Map(newest.map((row) => [row.id, row])) : undefined;
  const rows = current.rows.map((row): HeldRow => {
    const fresh = !current.known.has(row.id);
    const here = byId === undefined ? row : byId.get(row.id);
    if (here !== undefined) return { row: here, fresh, deleted: false };
    const cached = client.readQuery(
      SystemDocument,
      { id: row.id },
      { requestPolicy: "cache-only" },
    );
    const elsewhere = cached?.data?.system;
    return { row: elsewhere ?? row, fresh, deleted: elsewhere === null };
  });
  return { rows, waiting: keeps };
}

const isSameOrder = (
  some: readonly SystemPartsFragment[],
  others: readonly SystemPartsFragment[],
): boolean => some.length === others.length && some.every(({ id }, at) => id === others[at]?.id);
