import {
  type AuditAction,
  AuditLogAppendedDocument,
  CurrentTenantDocument,
  type TenantPartsFragment,
} from "@keymark/client/documents";
import { useMay } from "../session/viewer-context";
import { useLiveQuery } from "./use-live-query";
import { useLiveSubscription } from "./use-live-subscription";

/** The actions after which a tenant has to be refetched. */
export const TENANT_CHANGES: readonly AuditAction[] = [
  "TENANT_CREATED",
  "TENANT_RENAMED",
  "TENANT_POLICY_CHANGED",
  "TENANT_SUSPENDED",
  "TENANT_RESUMED",
  "TENANT_DELETED",
];

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
