const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A choice of a form: a number of seconds from now, `NEVER` or `CUSTOM`, with the local time that was entered for it. */
export interface EndChoice {
  preset: string;
  local: string;
}

export type Preset = readonly [value: string, text: string];

export const NEVER = "never";
export const CUSTOM = "custom";

const preset = (seconds: number, text: string): Preset => [String(seconds), text];

/** The lives of a key that the console offers. */
export const EXPIRIES: readonly Preset[] = [
  [NEVER, "Never"],
  preset(30 * DAY, "30 days"),
  preset(90 * DAY, "90 days"),
  preset(180 * DAY, "180 days"),
  preset(365 * DAY, "1 year"),
  [CUSTOM, "Custom time"],
];

/** For how long the key before is accepted after a rotation. The server accepts at most 30 days. */
export const OVERLAPS: readonly Preset[] = [
  preset(0, "Not at all: it stops immediately"),
  preset(HOUR, "1 hour"),
  preset(DAY, "1 day"),
  preset(7 * DAY, "7 days"),
  preset(30 * DAY, "30 days"),
  [CUSTOM, "Custom time"],
];

/** Not 30 days, the longest that the server accepts: by its clock that may be later than 30 days ahead. */
export const EXTENSIONS: readonly Preset[] = [
  preset(HOUR, "In 1 hour"),
  preset(DAY, "In 1 day"),
  preset(7 * DAY, "In 7 days"),
  preset(29 * DAY, "In 29 days"),
  [CUSTOM, "Custom time"],
];

const choiceOf = (value: string | number): EndChoice => ({ preset: String(value), local: "" });

export const DEFAULT_OVERLAP = choiceOf(DAY);
export const DEFAULT_EXTENSION = choiceOf(DAY);
export const DEFAULT_EXPIRY = choiceOf(90 * DAY);
export const NO_EXPIRY = choiceOf(NEVER);

/** Returns the chosen end: null for never, undefined while the custom time is incomplete. */
export function chosenEnd({ preset: value, local }: EndChoice, now: Date): Date | null | undefined {
  if (value === NEVER) return null;
  const end = value === CUSTOM ? new Date(local) : new Date(now.getTime() + Number(value) * 1_000);
  return Number.isNaN(end.getTime()) ? undefined : end;
}

/** Returns the chosen time from now in whole seconds; undefined while it is incomplete or in the past. */
export function chosenSeconds(choice: EndChoice, now: Date): number | undefined {
  if (choice.preset !== CUSTOM) return Number(choice.preset);
  const end = chosenEnd(choice, now);
  if (!end || end < now) return undefined;
  return Math.round((end.getTime() - now.getTime()) / 1_000);
}

export const INCOMPLETE_END = "Enter a date and a time in the future.";
