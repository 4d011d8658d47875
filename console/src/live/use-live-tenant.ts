import {
  AuditLogAppendedDocument,
  CurrentTenantDocument,
  type TenantPartsFragment,
} from "@keymark/client/documents";
import { useMay } from "../session/viewer-context";
import { TENANT_CHANGES } from "./actions";
import { useLiveQuery } from "./use-live-query";
import { useLiveSubscription } from "./use-live-subscription";

/**
 * Keeps the tenant that the page is about up to date. Undefined while it is loading, and for operators who may not view
 * it.
 */
export function useLiveTenant(enabled: boolean): TenantPartsFragment | undefined {
  const mayView = useMay("view") && enabled;
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: { actions: [...TENANT_CHANGES] } },
    enabled: mayView,
    onData: () => execute({ requestPolicy: "network-only" }),
  });
  const policy = mayView && ready ? "cache-and-network" : "cache-only";
  const [{ data }, execute] = useLiveQuery(CurrentTenantDocument, {}, policy);
  return (mayView && data?.tenant) || undefined;
}
