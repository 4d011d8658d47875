import type { SystemChangedSubscription, SystemChangeKind } from "@keymark/client/documents";
import { useEffect, useRef, useState } from "preact/hooks";
import { useViewer } from "../session/viewer-context";

type Change = SystemChangedSubscription["systemChanged"];

/** Changes within this time are announced together. */
const BATCH_MS = 1_500;

const SENTENCES: Record<SystemChangeKind, (system: string) => string> = {
  CREATED: (system) => `${system} was created.`,
  RENAMED: (system) => `A system was renamed to ${system}.`,
  KEY_GENERATED: (system) => `A key was generated for ${system}.`,
  KEY_REVOKED: (system) => `The key of ${system} was revoked.`,
  KEY_ROTATED: (system) => `The key of ${system} was rotated.`,
  ROTATION_ENDED: (system) => `The rotation of the key of ${system} was ended.`,
  KEY_EXPIRY_CHANGED: (system) => `The end of a key of ${system} was changed.`,
  KEY_EXPIRED: (system) => `A key of ${system} has ended.`,
  KEY_EXPIRY_WARNED: (system) => `The key of ${system} ends soon.`,
  SUSPENDED: (system) => `${system} was suspended.`,
  RESUMED: (system) => `${system} was resumed.`,
  DESCRIBED: (system) => `The description of ${system} was changed.`,
  EXTERNAL_ID_CHANGED: (system) => `The external ID of ${system} was changed.`,
  DELETED: (system) => `${system} was deleted.`,
};

/** Describes other operators' changes for screen readers. */
export function useChangeAnnouncement() {
  const { id: viewerId } = useViewer();
  const [announcement, setAnnouncement] = useState("");
  const batch = useRef<Change[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const announce = (change: Change) => {
    if (change.entry.actor.id === viewerId) return;
    batch.current.push(change);
    if (batch.current.length > 1) return;
    timer.current = setTimeout(() => setAnnouncement(describe(batch.current.splice(0))), BATCH_MS);
  };
  return { announcement, announce };
}

function describe(changes: readonly Change[]): string {
  const [first, ...others] = changes;
  if (first === undefined) return "";
  if (others.length > 0) return `${changes.length} changes by other operators.`;
  return SENTENCES[first.kind](first.system?.name ?? first.entry.systemName ?? "an unknown system");
}
