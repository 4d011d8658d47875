import type { TenantPartsFragment } from "@keymark/client/documents";

type Policy = TenantPartsFragment["policy"];

/** The limits of the server. */
export const MAX_KEY_LIFETIME_DAYS = 3_650;
export const MIN_IDLE_MINUTES = 2;
export const MAX_IDLE_MINUTES = 43_200;

const counted = (count: number, unit: string): string =>
  `${new Intl.NumberFormat().format(count)} ${unit}${count === 1 ? "" : "s"}`;

/** Describes the longest life of a tenant's keys. */
export const keyLifetimeText = ({ maxKeyLifetimeDays }: Policy): string =>
  maxKeyLifetimeDays === null ? "No limit" : counted(maxKeyLifetimeDays, "day");

/** Describes how long a session of a tenant's operators can be idle. */
export const sessionIdleText = ({ sessionIdleMinutes }: Policy): string =>
  sessionIdleMinutes === null
    ? "As long as the server allows"
    : counted(sessionIdleMinutes, "minute");

/** Reads a number that was entered: null if there is none, undefined if it is not within the limits. */
export function readLimit(text: string, min: number, max: number): number | null | undefined {
  if (text.trim() === "") return null;
  const limit = Number(text);
  return Number.isInteger(limit) && limit >= min && limit <= max ? limit : undefined;
}

/** Suggests the id of a tenant with a name: its letters and digits, in lower case. */
export const suggestedId = (name: string): string =>
  name
    .normalize("NFKD")
    .toLowerCase()
    .replace(/\p{Mark}/gu, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 63);
