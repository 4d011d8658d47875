import { type KeyState, type SystemOrder, SystemsDocument } from "@keymark/client/documents";
import { useEffect, useState } from "preact/hooks";
import { useLiveQuery } from "../live/use-live-query";
import { navigate } from "../router";
import { listPath } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { KEY_STATES } from "../text/key-state";
import { isFound } from "../text/names";
import { LoadError } from "./load-error";
import { ScrollSentinel } from "./scroll-sentinel";
import { Skeleton } from "./skeleton";
import { SystemRow } from "./system-row";
import { TableMessage } from "./table-message";
import { useFrozenRows } from "./use-frozen-rows";

const PAGE_SIZE = 50;

interface SystemRowsProps {
  search: string;
  state: KeyState | undefined;
  order: SystemOrder;
  typed: string;
  after?: string;
  /** Whether rows must stay in place. */
  frozen: boolean;
  onOutdated: (outdated: boolean) => void;
}

/** A page of rows and, once its end is scrolled to, the pages after it. */
export function SystemRows(props: SystemRowsProps) {
  const { search, state, order, typed, after, frozen, onOutdated } = props;
  const { openedPages } = useSession();
  const [openedHere, setOpenedHere] = useState<string>();
  const variables = {
    search,
    ...(state && { filter: { keyState: state } }),
    orderBy: order,
    first: PAGE_SIZE,
    ...(after === undefined ? {} : { after }),
  };
  const [{ data, error, operation }, execute] = useLiveQuery(
    SystemsDocument,
    variables,
    "cache-first",
  );
  const loadedSearch = operation?.variables.search ?? "";
  const nodes = data?.systems.nodes ?? [];
  const matching =
    loadedSearch === typed ? nodes : nodes.filter((system) => isFound(system, typed));
  const { rows, outdated } = useFrozenRows(matching, `${data && operation?.key} ${typed}`, frozen);
  useEffect(() => onOutdated(outdated), [outdated, onOutdated]);

  if (!data) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <TableMessage>
        {error === undefined ? <Skeleton lines={6} /> : <LoadError error={error} onRetry={retry} />}
      </TableMessage>
    );
  }
  const { hasNextPage, endCursor } = data.systems.pageInfo;
  if (rows.length === 0 && after === undefined && !hasNextPage) {
    if (loadedSearch !== typed) return <TableMessage>{null}</TableMessage>;
    return (
      <TableMessage>
        {typed === "" && state === undefined ? (
          <NoSystems />
        ) : (
          <NoMatch search={typed} state={state} order={order} />
        )}
      </TableMessage>
    );
  }
  // Until the rows of this search are loaded, those of the previous one are shown; their cursor does not apply to it.
  const next = loadedSearch === search && hasNextPage ? endCursor : null;
  const open = next !== null && (openedHere === next || openedPages.has(next));
  return (
    <>
      <tbody>
        {rows.map(({ row, isNew, isDeleted }) => (
          <SystemRow key={row.id} system={row} isNew={isNew} isDeleted={isDeleted} />
        ))}
      </tbody>
      {next !== null && open && (
        <SystemRows
          key={next}
          search={search}
          state={state}
          order={order}
          typed={typed}
          after={next}
          frozen={frozen}
          onOutdated={onOutdated}
        />
      )}
      {next !== null && !open && (
        <TableMessage>
          <ScrollSentinel
            onReached={() => {
              openedPages.add(next);
              setOpenedHere(next);
            }}
          />
        </TableMessage>
      )}
    </>
  );
}

function NoSystems() {
  const mayCreate = useMay("create");
  return (
    <div class="empty">
      <h2>There are no systems yet.</h2>
      <p>A system is an application that calls your API with an API key of its own.</p>
      {mayCreate && (
        <p>
          <em>Create API key</em> creates the first one.
        </p>
      )}
    </div>
  );
}

interface NoMatchProps {
  search: string;
  state: KeyState | undefined;
  order: SystemOrder;
}

function NoMatch({ search, state, order }: NoMatchProps) {
  const among = state && ` among those in the state ${KEY_STATES[state]}`;
  return (
    <div class="empty">
      {search === "" ? (
        <p>There is no system{among}.</p>
      ) : (
        <p>
          No system matches “<bdi>{search}</bdi>”{among}.
        </p>
      )}
      <button type="button" onClick={() => navigate(listPath("", order), { replace: true })}>
        Show all systems
      </button>
    </div>
  );
}
