import type { AuditEntryPartsFragment } from "@keymark/client/documents";
import { exactTime } from "./time";

type Value = string | number | null | undefined;

/** Returns everything that an entry holds, with the names that people know it by; what it does not hold is left out. */
export function auditDetails(
  entry: AuditEntryPartsFragment,
  locale?: string,
): readonly (readonly [label: string, value: string])[] {
  const { actor, permissions, keyExpiresAt } = entry;
  const time = (iso: string) => `${exactTime(new Date(iso), locale)} (${iso})`;
  const details: [string, Value][] = [
    ["Number", entry.number],
    ["Time", time(entry.occurredAt)],
    ["Who", actor.name],
    ["Kind of actor", actor.kind],
    ["Actor ID", actor.id],
    ["Acted for", actor.isPlatform ? "the platform" : null],
    ["Action", entry.action],
    ["Outcome", entry.outcome],
    ["Error code", entry.errorCode],
    ["Times", entry.count],
    ["System", entry.systemName],
    ["System ID", entry.systemId],
    ["Name before", entry.previousName],
    ["Key mark", entry.keyMark],
    ["Mark of the other key", entry.previousKeyMark],
    ["End of the key", keyExpiresAt && time(keyExpiresAt)],
    ["Reason", entry.reason],
    ["Operator", entry.operatorName],
    ["Operator ID", entry.operatorId],
    ["Token", entry.tokenName],
    ["Token ID", entry.tokenId],
    ["Tenant", entry.tenantName],
    ["Permission codes", permissions && (permissions.join(", ") || "none")],
    ["Address", entry.sourceAddress],
    ["Request ID", entry.requestId],
    ["Hash", entry.hash],
    ["Entry ID", entry.id],
  ];
  return details.flatMap(([label, value]) =>
    value === null || value === undefined ? [] : [[label, String(value)] as const],
  );
}
