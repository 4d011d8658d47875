import { useEffect, useState } from "preact/hooks";
import { SystemsDocument } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Link, navigate } from "../router";
import { listAddress, NEW_SYSTEM } from "../routes";
import { useOpenedPages } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { matchesSearch } from "../text/names";
import { Failed } from "./failed";
import { NextPage } from "./next-page";
import { Skeleton } from "./skeleton";
import { SystemRow } from "./system-row";
import { TableLine } from "./table-line";
import { useHeldRows } from "./use-held-rows";

const PAGE_SIZE = 50;

interface SystemRowsProps {
  search: string;
  typed: string;
  after?: string;
  /** Whether rows have to stay where they are. */
  held: boolean;
  onWaiting: (waiting: boolean) => void;
}

/** A page of rows and, once it is scrolled to, the pages after it. */
export function SystemRows({ search, typed, after, held, onWaiting }: SystemRowsProps) {
  const opened = useOpenedPages();
  const [openedHere, setOpenedHere] = useState<string>();
  const variables = { search, first: PAGE_SIZE, ...(after === undefined ? {} : { after }) };
  const [{ data, error, operation }, execute] = useLiveQuery(
    SystemsDocument,
    variables,
    "cache-first",
  );
  const answered = operation?.variables.search ?? "";
  const nodes = data?.systems.nodes ?? [];
  const matching =
    answered === typed ? nodes : nodes.filter(({ name }) => matchesSearch(name, typed));
  const { rows, waiting } = useHeldRows(matching, `${data && operation?.key} ${typed}`, held);
  useEffect(() => onWaiting(waiting), [waiting, onWaiting]);

  if (!data) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <TableLine>
        {error === undefined ? <Skeleton lines={6} /> : <Failed error={error} onRetry={retry} />}
      </TableLine>
    );
  }
  const { hasNextPage, endCursor } = data.systems.pageInfo;
  if (rows.length === 0 && after === undefined && !hasNextPage) {
    if (answered !== typed) return <TableLine>{null}</TableLine>;
    return <TableLine>{typed === "" ? <NoSystems /> : <NoMatch search={typed} />}</TableLine>;
  }
  // Rows of the last search stay until those of this one are here; their end is not this one's.
  const next = answered === search && hasNextPage ? endCursor : null;
  const open = next !== null && (openedHere === next || opened.has(next));
  return (
    <>
      <tbody>
        {rows.map(({ row, fresh, deleted }) => (
          <SystemRow key={row.id} system={row} fresh={fresh} deleted={deleted} />
        ))}
      </tbody>
      {next !== null && open && (
        <SystemRows
          key={next}
          search={search}
          typed={typed}
          after={next}
          held={held}
          onWaiting={onWaiting}
        />
      )}
      {next !== null && !open && (
        <TableLine>
          <NextPage
            onReached={() => {
              opened.add(next);
              setOpenedHere(next);
            }}
          />
        </TableLine>
      )}
    </>
  );
}

function NoSystems() {
  const mayCreate = useMay("create");
  return (
    <div class="empty">
      <h2>There are no systems yet.</h2>
      <p>A system is an application that calls your API with a key of its own.</p>
      {mayCreate && <Link to={NEW_SYSTEM}>Create the first system</Link>}
    </div>
  );
}

function NoMatch({ search }: { search: string }) {
  return (
    <div class="empty">
      <p>
        No system matches “<bdi>{search}</bdi>”.
      </p>
      <button type="button" onClick={() => navigate(listAddress(""), { replace: true })}>
        Show all systems
      </button>
    </div>
  );
}
