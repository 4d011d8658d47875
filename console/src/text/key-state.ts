import type { KeyState, SystemPartsFragment } from "@keymark/client/documents";
import { timeUntil } from "./time";

export interface Badge {
  text: string;
  tone: "neutral" | "caution" | "alarm";
}

/** An end of a key that is nearer than this is worth a badge: the server warns 30, 7 and 1 day before. */
const NEAR_MS = 30 * 24 * 3600 * 1000;
const URGENT_MS = 7 * 24 * 3600 * 1000;

/** Returns what is worth knowing of a system's key at a glance. */
export function badgesOf(system: SystemPartsFragment, now: Date): Badge[] {
  const badges: Badge[] = [];
  if (system.suspendedAt !== null) badges.push({ text: "Suspended", tone: "alarm" });
  if (system.retiringKey !== null) badges.push({ text: "Rotating", tone: "neutral" });
  const expiry = expiryBadge(system, now);
  if (expiry !== undefined) badges.push(expiry);
  return badges;
}

function expiryBadge({ currentKey, lastKey }: SystemPartsFragment, now: Date): Badge | undefined {
  if (currentKey === null) {
    return lastKey?.end === "EXPIRED" ? { text: "Expired", tone: "alarm" } : undefined;
  }
  if (currentKey.expiresAt === null) return undefined;
  const left = new Date(currentKey.expiresAt).getTime() - now.getTime();
  if (left <= 0) return { text: "Expired", tone: "alarm" };
  if (left > NEAR_MS) return undefined;
  const text = `Expires ${timeUntil(new Date(currentKey.expiresAt), now)}`;
  return { text, tone: left > URGENT_MS ? "neutral" : "caution" };
}

/** Whether the system has a current or a retiring key. */
export const hasKey = ({ currentKey, retiringKey }: SystemPartsFragment): boolean =>
  currentKey !== null || retiringKey !== null;

/** Whether a key of the system is accepted, so that taking it away may stop an application. */
export const hasLiveKey = (system: SystemPartsFragment): boolean =>
  system.suspendedAt === null && hasKey(system);

/** The options of the state filter. */
export const KEY_STATES: Record<KeyState, string> = {
  ACTIVE: "Active",
  NOT_GENERATED: "Not Generated",
  SUSPENDED: "Suspended",
};

export const isKeyState = (text: string | null): text is KeyState =>
  text !== null && Object.hasOwn(KEY_STATES, text);
