const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 24 * 3600],
  ["month", 30 * 24 * 3600],
  ["week", 7 * 24 * 3600],
  ["day", 24 * 3600],
  ["hour", 3600],
  ["minute", 60],
];

/** "5 minutes ago"; below a minute, and for a clock that is a little ahead, "just now". */
export function relativeTime(then: Date, now: Date, locale?: string): string {
  const seconds = (then.getTime() - now.getTime()) / 1000;
  const step = STEPS.find(([, length]) => Math.abs(seconds) >= length);
  if (step === undefined) return "just now";
  const [unit, length] = step;
  const format = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  return format.format(Math.trunc(seconds / length), unit);
}

export const exactTime = (time: Date, locale?: string): string =>
  new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" }).format(time);
