const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 24 * 3600],
  ["month", 30 * 24 * 3600],
  ["week", 7 * 24 * 3600],
  ["day", 24 * 3600],
  ["hour", 3600],
  ["minute", 60],
];

// Making a format takes far longer than using it, and a list shows a thousand times.
const formats = new Map<string, Intl.DateTimeFormat>();
const relativeFormats = new Map<string | undefined, Intl.RelativeTimeFormat>();

/** "5 minutes ago"; below a minute, and for a clock that is a little ahead, "just now". */
export function relativeTime(then: Date, now: Date, locale?: string): string {
  const seconds = (then.getTime() - now.getTime()) / 1000;
  const step = STEPS.find(([, length]) => Math.abs(seconds) >= length);
  if (step === undefined) return "just now";
  const [unit, length] = step;
  let format = relativeFormats.get(locale);
  if (format === undefined) {
    format = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
    relativeFormats.set(locale, format);
  }
  return format.format(Math.trunc(seconds / length), unit);
}

/** To the second and with its time zone, for whoever needs to know exactly. */
export const exactTime = (time: Date, locale?: string): string =>
  formatted(time, { dateStyle: "full", timeStyle: "long" }, locale);

/** To the second, short enough for a column. */
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

/** What an input of type `datetime-local` holds for a moment: its local time, to the minute. */
export function toLocalInput(moment: string | undefined): string {
  if (moment === undefined) return "";
  const time = new Date(moment);
  if (Number.isNaN(time.getTime())) return "";
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

export function fromLocalInput(local: string): string | undefined {
  const time = new Date(local);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}
