import { useCallback, useMemo, useState } from "preact/hooks";
import { KeyMark } from "../components/key-mark";
import { MissingPermission } from "../components/missing-permission";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { Skeleton } from "../components/skeleton";
import { SystemTable } from "../components/system-table";
import { SystemTotal } from "../components/system-total";
import { useDebounced } from "../components/use-debounced";
import { SystemChangedDocument, type SystemChangeKind, type SystemOrder } from "../gql/graphql";
import { useChangeAnnouncement } from "../live/use-change-announcement";
import { useLiveSubscription } from "../live/use-live-subscription";
import { Link, navigate, useLocation } from "../router";
import { listPath, NEW_SYSTEM } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { parseOrder } from "../text/system-order";

const SEARCH_DEBOUNCE_MS = 150;
/** The changes after which another number of systems may match the search. */
const COUNTED: readonly SystemChangeKind[] = ["CREATED", "RENAMED", "DELETED"];

/** The systems of the tenant, filtered and sorted by the parameters `search` and `sort` of the URL. */
export function SystemsPage() {
  const { search: parameters, notice } = useLocation();
  const search = parameters.get("search") ?? "";
  const order = useOrder(parameters.get("sort"));
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
      if (COUNTED.includes(systemChanged.kind)) setChanges((count) => count + 1);
    },
  });
  const sort = useCallback(
    (chosen: SystemOrder) => navigate(listPath(search, chosen), { replace: true }),
    [search],
  );
  const table = useMemo(
    () => <SystemTable search={debouncedSearch} typed={search} order={order} onSort={sort} />,
    [debouncedSearch, search, order, sort],
  );
  return (
    <>
      <PageHeading title="API Key Management" />
      <Notice>{notice}</Notice>
      <div class="toolbar">
        {mayView && (
          <SearchBox
            value={search}
            onInput={(typed) => {
              setPastedMark(undefined);
              navigate(listPath(typed, order), { replace: true });
            }}
            onKey={setPastedMark}
          />
        )}
        {mayView && ready && <SystemTotal search={debouncedSearch} changes={changes} />}
        {mayCreate && (
          <Link to={NEW_SYSTEM} class="button primary">
            Create API key
          </Link>
        )}
      </div>
      <p role="status" class={pastedMark === undefined ? undefined : "warning"}>
        {pastedMark !== undefined && (
          <>
            A whole API key was pasted. It was removed and not sent; its mark is{" "}
            <KeyMark mark={pastedMark} />.
          </>
        )}
      </p>
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

/** Returns the same object while the parameter stays the same. */
const useOrder = (sort: string | null): SystemOrder => useMemo(() => parseOrder(sort), [sort]);
