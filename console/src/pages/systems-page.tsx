import {
  SystemChangedDocument,
  type SystemChangeKind,
  type SystemOrder,
} from "@keymark/client/documents";
import { useCallback, useMemo, useState } from "preact/hooks";
import { MarkMatches } from "../components/mark-matches";
import { MissingPermission } from "../components/missing-permission";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { Skeleton } from "../components/skeleton";
import { StateFilter } from "../components/state-filter";
import { SystemTable } from "../components/system-table";
import { SystemTotal } from "../components/system-total";
import { useDebounced } from "../components/use-debounced";
import { useChangeAnnouncement } from "../live/use-change-announcement";
import { useLiveSubscription } from "../live/use-live-subscription";
import { Link, navigate, useLocation } from "../router";
import { listPath, NEW_SYSTEM } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { isKeyState } from "../text/key-state";
import { couldBeMark } from "../text/pasted-key";
import { parseOrder } from "../text/system-order";

const SEARCH_DEBOUNCE_MS = 150;
/** The changes after which another number of systems may match the search. */
const COUNTED: readonly SystemChangeKind[] = ["CREATED", "RENAMED", "DESCRIBED", "DELETED"];

/** The systems of the tenant, filtered and sorted by the parameters `search`, `state` and `sort` of the URL. */
export function SystemsPage() {
  const { search: parameters, notice } = useLocation();
  const search = parameters.get("search") ?? "";
  const order = useOrder(parameters.get("sort"));
  const stateParameter = parameters.get("state");
  const state = isKeyState(stateParameter) ? stateParameter : undefined;
  const debouncedSearch = useDebounced(search, SEARCH_DEBOUNCE_MS);
  const mayView = useMay("view");
  const mayCreate = useMay("create");
  /** The mark of a key that was pasted into the search box. */
  const [pastedMark, setPastedMark] = useState<string>();
  const [changes, setChanges] = useState(0);
  const { announcement, announce } = useChangeAnnouncement();
  const { systemsPosition } = useSession();
  const ready = useLiveSubscription({
    document: SystemChangedDocument,
    variables: {},
    position: systemsPosition,
    enabled: mayView,
    onData: ({ systemChanged }) => {
      announce(systemChanged);
      if (state || COUNTED.includes(systemChanged.kind)) setChanges((count) => count + 1);
    },
  });
  const sort = useCallback(
    (chosen: SystemOrder) => navigate(listPath(search, chosen, state), { replace: true }),
    [search, state],
  );
  const table = useMemo(
    () => (
      <SystemTable
        search={debouncedSearch}
        typed={search}
        state={state}
        order={order}
        onSort={sort}
      />
    ),
    [debouncedSearch, search, state, order, sort],
  );
  return (
    <>
      <PageHeading title="API Key Management" />
      <Notice>{notice}</Notice>
      <div class="toolbar">
        {mayView && (
          <SearchBox
            label="Search systems"
            value={search}
            onInput={(typed) => {
              setPastedMark(undefined);
              navigate(listPath(typed, order, state), { replace: true });
            }}
            onKey={setPastedMark}
          />
        )}
        {mayView && (
          <StateFilter
            state={state}
            onChoose={(chosen) => navigate(listPath(search, order, chosen), { replace: true })}
          />
        )}
        {mayView && ready && (
          <SystemTotal
            search={debouncedSearch}
            filter={state && { keyState: state }}
            changes={changes}
          />
        )}
        {mayCreate && (
          <Link to={NEW_SYSTEM} class="button primary">
            Create API key
          </Link>
        )}
      </div>
      {mayView && (
        <MarkMatches mark={pastedMark ?? typedMark(debouncedSearch)} isPasted={!!pastedMark} />
      )}
      {!mayView && (
        <MissingPermission action="view">
          {mayCreate && <p>You can still create a system and generate its key.</p>}
        </MissingPermission>
      )}
      {mayView && (ready ? table : <Skeleton lines={6} />)}
      <p class="visually-hidden" role="status">
        {announcement}
      </p>
    </>
  );
}

const typedMark = (search: string) => (couldBeMark(search) ? search : undefined);

/** Returns the same object while the parameter stays the same. */
const useOrder = (sort: string | null): SystemOrder => useMemo(() => parseOrder(sort), [sort]);
