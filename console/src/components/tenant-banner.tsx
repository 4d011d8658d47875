import type { TenantPartsFragment } from "@keymark/client/documents";
import { Link } from "../router";
import { SYSTEMS } from "../routes";
import { useSession } from "../session/session-context";
import { useViewer } from "../session/viewer-context";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

/** Says that the pages are about another tenant than the operator's own, and that the tenant is suspended. */
export function TenantBanner({ tenant }: { tenant: TenantPartsFragment | undefined }) {
  const session = useSession();
  const viewer = useViewer();
  const id = session.tenant ?? viewer.tenantId;
  const isAway = id !== viewer.tenantId;
  const suspendedAt = tenant?.suspendedAt ?? null;
  if (!isAway && suspendedAt === null) return null;
  return (
    <aside class="tenant-banner" aria-label="Tenant">
      {isAway && (
        <p>
          You are in the tenant{" "}
          <strong>
            <Name>{tenant?.name ?? id}</Name>
          </strong>
          {tenant !== undefined && tenant.name !== id && <> ({id})</>}, not in your own.{" "}
          <Link to={SYSTEMS} tenant={null}>
            Return to {viewer.tenantId}
          </Link>
        </p>
      )}
      {suspendedAt !== null && (
        <p>
          The tenant was suspended <TimeAgo time={suspendedAt} />: its keys, sessions and tokens are
          refused.
        </p>
      )}
    </aside>
  );
}
