import type { EnforcementPartsFragment } from "@keymark/client/documents";

/** What every instance does with the key, or with the change itself, once it is enforced. */
export type Verdict = "refused" | "accepted" | "applied";

/**
 * Describes how far a change is enforced: on every instance already, or by a known time at the latest. The text is about
 * `subject`, such as "Its key", or else about the key that the text before it names.
 */
export function enforcementText(
  verdict: Verdict,
  enforcement: EnforcementPartsFragment,
  { subject, locale }: { subject?: string | undefined; locale?: string } = {},
): string {
  const text = predicate(verdict, enforcement, locale);
  return subject === undefined
    ? text.charAt(0).toUpperCase() + text.slice(1)
    : `${subject} is ${text}`;
}

function predicate(
  verdict: Verdict,
  enforcement: EnforcementPartsFragment,
  locale: string | undefined,
): string {
  const { state, elapsedMs, instances, enforcedNoLaterThan } = enforcement;
  if (state === "ENFORCED") {
    const where = instances === 1 ? "1 instance" : `${instances} instances`;
    return `${verdict} everywhere after ${duration(elapsedMs, locale)}, on ${where}.`;
  }
  if (enforcedNoLaterThan === null) return `not yet ${verdict} everywhere.`;
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  const latest = time.format(new Date(enforcedNoLaterThan));
  return `not yet ${verdict} everywhere. It will be at ${latest} at the latest.`;
}

function duration(ms: number, locale: string | undefined): string {
  if (ms < 1) return "less than 1 ms";
  const [value, unit, digits] = ms < 1_000 ? [ms, "ms", 0] : [ms / 1_000, "s", 1];
  const format = new Intl.NumberFormat(locale, { maximumFractionDigits: digits });
  return `${format.format(value)} ${unit}`;
}
