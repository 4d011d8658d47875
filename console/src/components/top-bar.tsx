import { useLiveTenant } from "../live/use-live-tenant";
import { Link } from "../router";
import { ADMINISTRATION, AUDIT, REVIEW, routeOf, SYSTEMS } from "../routes";
import { useMay, useViewer } from "../session/viewer-context";
import { isAdministration } from "./administration-nav";
import { LiveDot } from "./live-dot";
import { OperatorMenu } from "./operator-menu";
import { TenantBanner } from "./tenant-banner";
import { TenantSwitcher } from "./tenant-switcher";

export function TopBar({ path }: { path: string }) {
  const { page } = routeOf(path);
  const isOfKeys = !["audit", "review", "my-sessions"].includes(page) && !isAdministration(page);
  const currentIf = (is: boolean) => (is ? "page" : undefined);
  const mayView = useMay("view");
  const { isPlatform } = useViewer();
  const mayViewTenants = useMay("view-tenants");
  const tenant = useLiveTenant(isPlatform);
  return (
    <>
      <header class="top-bar">
        <Link to={SYSTEMS} class="brand">
          Keymark
        </Link>
        <nav aria-label="Main">
          <Link to={SYSTEMS} aria-current={currentIf(isOfKeys)}>
            API Keys
          </Link>
          {mayView && (
            <>
              <Link to={REVIEW} aria-current={currentIf(page === "review")}>
                Review
              </Link>
              <Link to={AUDIT} aria-current={currentIf(page === "audit")}>
                Audit Log
              </Link>
            </>
          )}
          <Link to={ADMINISTRATION} aria-current={currentIf(isAdministration(page))}>
            Administration
          </Link>
        </nav>
        <LiveDot />
        {isPlatform && mayViewTenants && <TenantSwitcher tenant={tenant} />}
        <OperatorMenu />
      </header>
      <TenantBanner tenant={tenant} />
    </>
  );
}
