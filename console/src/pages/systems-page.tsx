import { MissingPermission } from "../components/missing-permission";
import { Notice } from "../components/notice";
import { PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import { SystemTable } from "../components/system-table";
import { useSettled } from "../components/use-settled";
import { Link, navigate, usePlace } from "../router";
import { listAddress, NEW_SYSTEM } from "../routes";
import { useMay } from "../session/viewer-context";

const SEARCH_AFTER_MS = 150;

/** The systems of the tenant, filtered by what the address says. */
export function SystemsPage() {
  const { search: parameters, notice } = usePlace();
  const search = parameters.get("search") ?? "";
  const settledSearch = useSettled(search, SEARCH_AFTER_MS);
  const mayView = useMay("view");
  const mayCreate = useMay("create");
  return (
    <>
      <PageHeading title="API Key Management" />
      <Notice text={notice} />
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
      {mayView ? <SystemTable search={settledSearch} /> : <MissingPermission action="view" />}
    </>
  );
}
