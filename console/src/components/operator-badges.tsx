import type { OperatorPartsFragment } from "@keymark/client/documents";
import { useViewer } from "../session/viewer-context";

/** What is worth knowing of an operator at a glance. */
export function OperatorBadges({ operator }: { operator: OperatorPartsFragment }) {
  const { id } = useViewer();
  return (
    <>
      {operator.suspendedAt !== null && <span class="badge alarm">Suspended</span>}{" "}
      {operator.isPlatform && <span class="badge neutral">Platform</span>}{" "}
      {operator.id === id && <span class="badge neutral">You</span>}
    </>
  );
}
