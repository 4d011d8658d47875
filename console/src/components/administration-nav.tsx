import { Link } from "../router";
import {
  ADMINISTRATION,
  OPERATORS,
  type Route,
  SERVICE_TOKENS,
  TENANTS,
  VERIFIER_TOKENS,
} from "../routes";
import { useMay } from "../session/viewer-context";

/** Whether a page is one of those that the navigation of the administration links to. */
export const isAdministration = (page: Route["page"]): boolean =>
  page === "operator" || PAGES.some(([, , linked]) => linked === page);

const PAGES = [
  ["Overview", ADMINISTRATION, "administration"],
  ["Operators", OPERATORS, "operators"],
  ["Service Tokens", SERVICE_TOKENS, "service-tokens"],
  ["Verifier Tokens", VERIFIER_TOKENS, "verifier-tokens"],
  ["Tenants", TENANTS, "tenants"],
] as const;

/** Links the pages of the administration that the operator may see. */
export function AdministrationNav({ current }: { current: Route["page"] }) {
  const mayViewOperators = useMay("view-operators");
  const mayViewTenants = useMay("view-tenants");
  const isShown = {
    administration: true,
    operators: mayViewOperators,
    "service-tokens": mayViewOperators,
    "verifier-tokens": mayViewOperators,
    tenants: mayViewTenants,
  };
  const section = current === "operator" ? "operators" : current;
  return (
    <nav aria-label="Administration" class="sections">
      {PAGES.filter(([, , page]) => isShown[page]).map(([name, path, page]) => (
        <Link key={page} to={path} aria-current={page === section ? "page" : undefined}>
          {name}
        </Link>
      ))}
    </nav>
  );
}
