const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Periods that end now: their names, and when they start. */
export const PERIODS: readonly (readonly [name: string, start: (now: Date) => Date])[] = [
  ["Last hour", (now) => new Date(now.getTime() - HOUR_MS)],
  ["Today", (now) => new Date(now.getFullYear(), now.getMonth(), now.getDate())],
  ["Last 7 days", (now) => new Date(now.getTime() - 7 * DAY_MS)],
  ["Last 30 days", (now) => new Date(now.getTime() - 30 * DAY_MS)],
];
