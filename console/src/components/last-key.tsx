import {
  AuditLogDocument,
  type EndedKeyPartsFragment,
  type KeyEnd,
} from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import type { SystemUse } from "../live/use-system-use";
import { useMay } from "../session/viewer-context";
import { exactTime } from "../text/time";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { trailVariables } from "./system-audit-trail";
import { TimeAgo } from "./time-ago";

const ENDS: Record<KeyEnd, string> = {
  REVOKED: "was revoked",
  EXPIRED: "expired",
  ROTATED_OUT: "ended with its rotation",
  SYSTEM_DELETED: "was deleted",
};

interface LastKeyProps {
  systemId: string;
  lastKey: EndedKeyPartsFragment;
  refusals: SystemUse["refusals"];
}

/** What became of the key that ended last. */
export function LastKey({ systemId, lastKey, refusals }: LastKeyProps) {
  const { mark, endedAt, end, reason } = lastKey;
  const revokedBy = useRevoker(systemId, lastKey);
  return (
    <>
      <KeyMark mark={mark} /> {ENDS[end]} <TimeAgo time={endedAt} exact="in row" />
      {revokedBy !== undefined && (
        <>
          {" "}
          by <Name>{revokedBy}</Name>
        </>
      )}
      {reason !== null && (
        <>
          : <Name>{reason}</Name>
        </>
      )}
      {refusals !== undefined && refusals.count > 0 && (
        <>
          . Refused {refusals.count === 1 ? "once" : `${refusals.count} times`} since
          {refusals.lastAt !== null && (
            <>
              , last <TimeAgo time={refusals.lastAt} />
            </>
          )}
        </>
      )}
      <span class="exact">{exactTime(new Date(endedAt))}</span>
    </>
  );
}

/** Returns who revoked the key, if that is among the newest entries of the system's audit trail. */
function useRevoker(systemId: string, { mark, end }: EndedKeyPartsFragment): string | undefined {
  const pause = !useMay("view") || end !== "REVOKED";
  const [{ data }] = useQuery({
    query: AuditLogDocument,
    variables: trailVariables(systemId),
    pause,
  });
  return data?.auditLog.nodes.find(
    ({ action, keyMark, previousKeyMark }) =>
      (action === "KEY_REVOKED" || action === "ROTATION_ENDED") &&
      (keyMark === mark || previousKeyMark === mark),
  )?.actor.name;
}
