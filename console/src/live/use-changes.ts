import { type AuditAction, AuditLogAppendedDocument } from "@keymark/client/documents";
import { useEffect, useRef } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { now } from "./now";
import { useLiveSubscription } from "./use-live-subscription";

/**
 * Calls back when what a page shows may have changed: after audit entries of these actions, and now and then while the
 * page is visible, or without polling whenever it becomes visible. Last uses have no entries, and not every operator may
 * see the audit log. Returns true once queries may
 * be sent: their results together with the changes from then on have no gap.
 */
export function useChanges(
  actions: readonly AuditAction[],
  onChange: () => void,
  { polls = true } = {},
): boolean {
  const { refetchCount } = useSession();
  const mayView = useMay("view");
  const latest = useRef(onChange);
  latest.current = onChange;
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: { actions: [...actions] } },
    enabled: mayView,
    onData: () => latest.current(),
  });
  useEffect(() => refetchCount.observe(() => latest.current()), [refetchCount]);
  useEffect(() => {
    const ifVisible = () => {
      if (document.visibilityState === "visible") latest.current();
    };
    if (polls) return now.observe(ifVisible);
    document.addEventListener("visibilitychange", ifVisible);
    return () => document.removeEventListener("visibilitychange", ifVisible);
  }, [polls]);
  return ready;
}
