import { Link } from "../router";
import { AUDIT, routeOf, SYSTEMS } from "../routes";
import { useMay } from "../session/viewer-context";
import { LiveDot } from "./live-dot";
import { OperatorMenu } from "./operator-menu";

export function TopBar({ path }: { path: string }) {
  const atAudit = routeOf(path).page === "audit";
  const mayView = useMay("view");
  return (
    <header class="top-bar">
      <Link to={SYSTEMS} class="brand">
        Keymark
      </Link>
      <nav aria-label="Main">
        <Link to={SYSTEMS} aria-current={atAudit ? undefined : "page"}>
          API Keys
        </Link>
        {mayView && (
          <Link to={AUDIT} aria-current={atAudit ? "page" : undefined}>
            Audit Log
          </Link>
        )}
      </nav>
      <LiveDot />
      <OperatorMenu />
    </header>
  );
}
