import {
  AuditLogAppendedDocument,
  CurrentTenantDocument,
  type TenantPartsFragment,
} from "@keymark/client/documents";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { TENANT_CHANGES } from "./actions";
import { useLiveQuery } from "./use-live-query";
import { useLiveSubscription } from "./use-live-subscription";

/**
 * Returns the tenant that the page is about, and keeps another tenant than the operator's own up to date. Undefined while
 * it is loading, and for operators who may not view it.
 */
export function useLiveTenant(enabled: boolean): TenantPartsFragment | undefined {
  const { tenant } = useSession();
  const mayView = useMay("view") && enabled;
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: { actions: [...TENANT_CHANGES] } },
    enabled: mayView && tenant !== undefined,
    onData: () => execute({ requestPolicy: "network-only" }),
  });
  const policy = mayView && ready ? "cache-and-network" : "cache-only";
  const [{ data }, execute] = useLiveQuery(CurrentTenantDocument, {}, policy);
  return (mayView && data?.tenant) || undefined;
}
