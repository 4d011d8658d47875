import {
  type AuditAction,
  type AuditEntryPartsFragment,
  AuditLogAppendedDocument,
  SystemDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import type { CombinedError } from "@urql/core";
import { useRef, useState } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { useLiveQuery } from "./use-live-query";
import { useLiveSubscription } from "./use-live-subscription";

/** The actions after which the system has to be refetched. */
const CHANGES: readonly AuditAction[] = [
  "SYSTEM_CREATED",
  "SYSTEM_RENAMED",
  "SYSTEM_DELETED",
  "KEY_GENERATED",
  "KEY_REVOKED",
  "KEY_ROTATED",
  "ROTATION_ENDED",
  "KEY_EXPIRY_CHANGED",
  "KEY_EXPIRED",
  "SYSTEM_SUSPENDED",
  "SYSTEM_RESUMED",
  "SYSTEM_DESCRIBED",
  "EXTERNAL_ID_CHANGED",
];

interface LiveSystem {
  /** Null if it does not exist; undefined while loading, or when the operator may not see it. */
  system: SystemPartsFragment | null | undefined;
  /** The last known state of the system, also after its deletion. */
  lastSeen: SystemPartsFragment | undefined;
  /** The audit entries since the page was opened, newest first. */
  entries: readonly AuditEntryPartsFragment[];
  error: CombinedError | undefined;
  /** True once the audit log may be queried without a gap before `entries`. */
  ready: boolean;
  refetch: () => void;
}

/**
 * Keeps a system up to date by subscribing to its audit entries, which unlike `systemChanged` include refused attempts.
 * Operators who may not view systems see only the ones that they created, as returned by their own mutations.
 */
export function useLiveSystem(id: string): LiveSystem {
  const { createdSystemIds } = useSession();
  const mayView = useMay("view");
  const [entries, setEntries] = useState<readonly AuditEntryPartsFragment[]>([]);
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: { systemId: id } },
    enabled: mayView,
    onData({ auditLogAppended: entry }) {
      setEntries((before) =>
        before.some((other) => other.id === entry.id) ? before : [entry, ...before],
      );
      if (CHANGES.includes(entry.action)) refetch();
    },
  });
  const policy = mayView && ready ? "cache-and-network" : "cache-only";
  const [{ data, error, stale, fetching }, execute] = useLiveQuery(SystemDocument, { id }, policy);
  const refetch = () => execute({ requestPolicy: "network-only" });
  const lastSeen = useRef<SystemPartsFragment>(undefined);
  if (data?.system) lastSeen.current = data.system;

  let system = data?.system;
  const pending = fetching || stale || !ready;
  if (system === null && lastSeen.current === undefined && pending) system = undefined;
  if (!mayView && !createdSystemIds.has(id)) system = undefined;
  return { system, lastSeen: lastSeen.current, entries, error, ready, refetch };
}
