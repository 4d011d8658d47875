import { useEffect, useRef, useState } from "preact/hooks";
import type { SystemChangedSubscription, SystemChangeKind } from "../gql/graphql";
import { useViewer } from "../session/viewer-context";

type Change = SystemChangedSubscription["systemChanged"];

const GATHER_MS = 1_500;

const WORDS: Record<SystemChangeKind, string> = {
  CREATED: "was created",
  RENAMED: "was renamed",
  KEY_GENERATED: "was given a key",
  KEY_REVOKED: "lost its key",
  DELETED: "was deleted",
};

/** What others do, in a sentence for screen readers: one for all that happens within a moment. */
export function useChangeNews() {
  const { id: viewerId } = useViewer();
  const [news, setNews] = useState("");
  const gathered = useRef<Change[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const tell = (change: Change) => {
    if (change.entry.actor.id === viewerId) return;
    gathered.current.push(change);
    if (gathered.current.length > 1) return;
    timer.current = setTimeout(() => setNews(sentence(gathered.current.splice(0))), GATHER_MS);
  };
  return { news, tell };
}

function sentence(changes: readonly Change[]): string {
  const [first, ...others] = changes;
  if (first === undefined) return "";
  if (others.length > 0) return `${changes.length} changes by others.`;
  return `${first.system?.name ?? first.entry.systemName ?? "A system"} ${WORDS[first.kind]}.`;
}
