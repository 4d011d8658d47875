import { shortMark } from "./mark";
import { timeSince } from "./time";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

interface Rotation {
  /** When the new key was generated. */
  startedAt: string;
  /** When the retiring key ends. */
  endsAt: string;
  /** When the retiring key was last used; null if it never was. */
  lastUsedAt: string | null;
}

/**
 * Whether the end of the overlap is near while the retiring key is still in use: within the last quarter of the overlap,
 * at most a day, and used within an hour, or within a quarter of the overlap if that is less.
 */
export function isEndAtRisk({ startedAt, endsAt, lastUsedAt }: Rotation, now: Date): boolean {
  if (lastUsedAt === null) return false;
  const quarter = (new Date(endsAt).getTime() - new Date(startedAt).getTime()) / 4;
  const left = new Date(endsAt).getTime() - now.getTime();
  const idle = now.getTime() - new Date(lastUsedAt).getTime();
  return left > 0 && left <= Math.min(DAY_MS, quarter) && idle <= Math.min(HOUR_MS, quarter);
}

/** Describes when a key was last used. Undefined while that is not known. */
export function lastUseText(
  mark: string,
  use: { lastUsedAt: string | null } | undefined,
  now: Date,
): string | undefined {
  if (use === undefined) return undefined;
  const key = shortMark(mark);
  if (use.lastUsedAt === null) return `No call with ${key} yet`;
  const lastUsedAt = new Date(use.lastUsedAt);
  return now.getTime() - lastUsedAt.getTime() < MINUTE_MS
    ? `Calls with ${key} within the last minute`
    : `No call with ${key} for ${timeSince(lastUsedAt, now)}`;
}
