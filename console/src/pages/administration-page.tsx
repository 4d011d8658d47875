import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { SystemCounts } from "../components/system-counts";
import { useMay } from "../session/viewer-context";

/** What there is in the tenant, as numbers that link to what they count, by permission. */
export function AdministrationPage() {
  const mayView = useMay("view");
  return (
    <>
      <PageHeading title="Administration" isOverview />
      {mayView ? <SystemCounts /> : <MissingPermission action="view" />}
    </>
  );
}
