import { useMemo } from "preact/hooks";
import { MissingPermission } from "../components/missing-permission";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { Skeleton } from "../components/skeleton";
import { SystemTable } from "../components/system-table";
import { useSettled } from "../components/use-settled";
import { SystemChangedDocument } from "../gql/graphql";
import { useChangeNews } from "../live/use-change-news";
import { useFollowing } from "../live/use-following";
import { Link, navigate, usePlace } from "../router";
import { listAddress, NEW_SYSTEM } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";

const SEARCH_AFTER_MS = 150;

/** The systems of the tenant, filtered by what the address says. */
export function SystemsPage() {
  const { search: parameters, notice } = usePlace();
  const search = parameters.get("search") ?? "";
  const settledSearch = useSettled(search, SEARCH_AFTER_MS);
  const mayView = useMay("view");
  const mayCreate = useMay("create");
  const { news, tell } = useChangeNews();
  const { systemsPosition } = useSession();
  const ready = useFollowing({
    document: SystemChangedDocument,
    variables: {},
    position: systemsPosition,
    enabled: mayView,
    onData: ({ systemChanged }) => tell(systemChanged),
  });
  const table = useMemo(
    () => <SystemTable search={settledSearch} typed={search} />,
    [settledSearch, search],
  );
  return (
    <>
      <PageHeading title="API Key Management" />
      <Notice>{notice}</Notice>
      <div class="toolbar">
        {mayView && (
          <SearchBox
            value={search}
            onInput={(typed) => navigate(listAddress(typed), { replace: true })}
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
          {mayCreate && <p>You can create a system all the same, and generate its key.</p>}
        </MissingPermission>
      )}
      {mayView && (ready ? table : <Skeleton lines={6} />)}
      <p class="for-readers" role="status">
        {news}
      </p>
    </>
  );
}
