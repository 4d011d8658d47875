import { useLayoutEffect } from "preact/hooks";
import { Name } from "../components/name";
import { Link } from "../router";
import { SYSTEMS } from "../routes";

interface RefusedTenantPageProps {
  tenant: string;
  message: string;
}

/** Shown instead of every page of a tenant that does not exist, or that the operator may not act in. */
export function RefusedTenantPage({ tenant, message }: RefusedTenantPageProps) {
  useLayoutEffect(() => {
    document.title = "Tenant refused – Keymark";
  }, []);
  return (
    <main class="sign-in">
      <h1>
        You cannot act in the tenant <Name>{tenant}</Name>
      </h1>
      <p role="alert">{message}</p>
      <p>
        <Link to={SYSTEMS} tenant={null}>
          Go to your own tenant
        </Link>
      </p>
    </main>
  );
}
