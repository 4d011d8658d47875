const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 24 * 3600],
  ["month", 30 * 24 * 3600],
  ["week", 7 * 24 * 3600],
  ["day", 24 * 3600],
  ["hour", 3600],
  ["minute", 60],
];

// Constructing a format is far slower than using it, and a list may show a thousand times.
const formats = new Map<string, Intl.DateTimeFormat>();
const relativeFormats = new Map<string | undefined, Intl.RelativeTimeFormat>();

/** Returns a text such as "5 minutes ago". Less than a minute, past or future, is "just now", as clocks differ. */
export function relativeTime(then: Date, now: Date, locale?: string): string {
  const seconds = (then.getTime() - now.getTime()) / 1000;
  const step = STEPS.find(([, length]) => Math.abs(seconds) >= length);
  if (step === undefined) return "just now";
  const [unit, length] = step;
  return relative(Math.trunc(seconds / length), unit, locale);
}

function relative(value: number, unit: Intl.RelativeTimeFormatUnit, locale?: string): string {
  let format = relativeFormats.get(locale);
  if (format === undefined) {
    format = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
    relativeFormats.set(locale, format);
  }
  return format.format(value, unit);
}

/**
 * Returns a text such as "in 7 days" or "tomorrow" for a time in the future, rounded, in days at most: unlike "next week",
 * a number of days can be planned with. Less than a minute is "in 1 minute".
 */
export function timeUntil(then: Date, now: Date, locale?: string): string {
  const minutes = Math.max(1, Math.round((then.getTime() - now.getTime()) / 60_000));
  if (minutes < 60) return relative(minutes, "minute", locale);
  const hours = Math.round(minutes / 60);
  return hours < 24
    ? relative(hours, "hour", locale)
    : relative(Math.round(hours / 24), "day", locale);
}

/** Describes the end of a key: how far ahead it is, or how long ago it was. */
export const endText = (end: Date, now: Date, locale?: string): string =>
  end > now ? timeUntil(end, now, locale) : relativeTime(end, now, locale);

/** Formats a time in full: to the second, with its time zone. */
export const exactTime = (time: Date, locale?: string): string =>
  formatted(time, { dateStyle: "full", timeStyle: "long" }, locale);

/** Formats a time to the second, short enough for a table column. */
export const shortTime = (time: Date, locale?: string): string =>
  formatted(time, { dateStyle: "medium", timeStyle: "medium" }, locale);

function formatted(time: Date, options: Intl.DateTimeFormatOptions, locale?: string): string {
  const key = `${locale} ${options.dateStyle}`;
  let format = formats.get(key);
  if (format === undefined) {
    format = new Intl.DateTimeFormat(locale, options);
    formats.set(key, format);
  }
  return format.format(time);
}

/** Names the time zone that times are shown in, such as "Europe/Berlin (GMT+1)"; the offset is that of `now`. */
export function timeZoneName(now: Date, locale?: string): string {
  const format = new Intl.DateTimeFormat(locale, { timeZoneName: "shortOffset" });
  const offset = format.formatToParts(now).find(({ type }) => type === "timeZoneName")?.value;
  return `${format.resolvedOptions().timeZone} (${offset})`;
}

/** Returns a text such as "26 minutes" for the time since then, and "less than a minute" below that. */
export function timeSince(then: Date, now: Date, locale?: string): string {
  const seconds = (now.getTime() - then.getTime()) / 1000;
  const step = STEPS.find(([, length]) => seconds >= length);
  if (step === undefined) return "less than a minute";
  const [unit, length] = step;
  const style = { style: "unit", unit, unitDisplay: "long" } as const;
  return new Intl.NumberFormat(locale, style).format(Math.trunc(seconds / length));
}

/** Converts an ISO time to the value of a `datetime-local` input: local time, to the minute. */
export function toLocalInput(isoTime: string | undefined): string {
  if (isoTime === undefined) return "";
  const time = new Date(isoTime);
  if (Number.isNaN(time.getTime())) return "";
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

/** Converts the value of a `datetime-local` input to an ISO time; undefined while it is incomplete. */
export function fromLocalInput(local: string): string | undefined {
  const time = new Date(local);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}
