import { InstanceList } from "../components/instance-list";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { SystemCounts } from "../components/system-counts";
import { WhoCounts } from "../components/who-counts";
import { useMay } from "../session/viewer-context";

/** What there is in the tenant, as numbers that link to what they count, and the instances, by permission. */
export function AdministrationPage() {
  const mayView = useMay("view");
  const mayViewOperators = useMay("view-operators");
  const mayViewTenants = useMay("view-tenants");
  return (
    <>
      <PageHeading title="Administration" isOverview />
      {mayView && <SystemCounts />}
      {(mayViewOperators || mayViewTenants) && <WhoCounts />}
      {mayViewTenants && <InstanceList />}
      {!mayView && !mayViewOperators && !mayViewTenants && <MissingPermission action="view" />}
    </>
  );
}
