import { useMemo } from "preact/hooks";
import { MissingPermission } from "../components/missing-permission";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { Skeleton } from "../components/skeleton";
import { SystemTable } from "../components/system-table";
import { useDebounced } from "../components/use-debounced";
import { SystemChangedDocument } from "../gql/graphql";
import { useChangeAnnouncement } from "../live/use-change-announcement";
import { useLiveSubscription } from "../live/use-live-subscription";
import { Link, navigate, useLocation } from "../router";
import { listPath, NEW_SYSTEM } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";

const SEARCH_DEBOUNCE_MS = 150;

/** The systems of the tenant, filtered by the `search` parameter of the URL. */
export function SystemsPage() {
  const { search: parameters, notice } = useLocation();
  const search = parameters.get("search") ?? "";
  const debouncedSearch = useDebounced(search, SEARCH_DEBOUNCE_MS);
  const mayView = useMay("view");
  const mayCreate = useMay("create");
  const { announcement, announce } = useChangeAnnouncement();
  const { systemsPosition } = useSession();
  const ready = useLiveSubscription({
    document: SystemChangedDocument,
    variables: {},
    position: systemsPosition,
    enabled: mayView,
    onData: ({ systemChanged }) => announce(systemChanged),
  });
  const table = useMemo(
    () => <SystemTable search={debouncedSearch} typed={search} />,
    [debouncedSearch, search],
  );
  return (
    <>
      <PageHeading title="API Key Management" />
      <Notice>{notice}</Notice>
      <div class="toolbar">
        {mayView && (
          <SearchBox
            value={search}
            onInput={(typed) => navigate(listPath(typed), { replace: true })}
          />
        )}
        {mayCreate && (
          <Link to={NEW_SYSTEM} class="button primary">
            Create API key
          </Link>
        )}
      </div>
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
