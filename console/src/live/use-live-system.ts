import type { CombinedError } from "@urql/core";
import { useRef, useState } from "preact/hooks";
import {
  type AuditAction,
  type AuditEntryPartsFragment,
  AuditLogAppendedDocument,
  SystemDocument,
  type SystemPartsFragment,
} from "../gql/graphql";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { useFollowing } from "./use-following";
import { useLiveQuery } from "./use-live-query";

const CHANGES: readonly AuditAction[] = [
  "SYSTEM_CREATED",
  "SYSTEM_RENAMED",
  "SYSTEM_DELETED",
  "KEY_GENERATED",
  "KEY_REVOKED",
];

interface LiveSystem {
  /** Null when there is none; undefined while that is not known, or the operator may not see it. */
  system: SystemPartsFragment | null | undefined;
  /** The system as it was last seen. */
  lastSeen: SystemPartsFragment | undefined;
  /** What has happened since the page was opened, newest first. */
  entries: readonly AuditEntryPartsFragment[];
  error: CombinedError | undefined;
  /** False until the entries that are read are followed by those that are sent. */
  ready: boolean;
  readAgain: () => void;
}

/**
 * A system that is kept up to date by its audit entries: they say of refused attempts too. Whoever may not see systems
 * sees what the answers to their own changes have brought.
 */
export function useLiveSystem(id: string): LiveSystem {
  const { created } = useSession();
  const mayView = useMay("view");
  const [entries, setEntries] = useState<readonly AuditEntryPartsFragment[]>([]);
  const ready = useFollowing({
    document: AuditLogAppendedDocument,
    variables: { filter: { systemId: id } },
    enabled: mayView,
    onData({ auditLogAppended: entry }) {
      setEntries((before) =>
        before.some((other) => other.id === entry.id) ? before : [entry, ...before],
      );
      if (CHANGES.includes(entry.action)) readAgain();
    },
  });
  const policy = mayView && ready ? "cache-and-network" : "cache-only";
  const [{ data, error, stale, fetching }, execute] = useLiveQuery(SystemDocument, { id }, policy);
  const readAgain = () => execute({ requestPolicy: "network-only" });
  const lastSeen = useRef<SystemPartsFragment>(undefined);
  if (data?.system) lastSeen.current = data.system;

  let system = data?.system;
  const asking = fetching || stale || !ready;
  if (system === null && lastSeen.current === undefined && asking) system = undefined;
  if (!mayView && !created.has(id)) system = undefined;
  return { system, lastSeen: lastSeen.current, entries, error, ready, readAgain };
}
