import type { EnforcementPartsFragment } from "../gql/graphql";

/** What every instance does with the key once the change is enforced. */
export type Verdict = "refused" | "accepted";

/** Describes how far a change is enforced: on every instance already, or by a known time at the latest. */
export function enforcementText(
  verdict: Verdict,
  enforcement: EnforcementPartsFragment,
  locale?: string,
): string {
  const { state, elapsedMs, instances, enforcedNoLaterThan } = enforcement;
  if (state === "ENFORCED") {
    const where = instances === 1 ? "1 instance" : `${instances} instances`;
    const word = verdict === "refused" ? "Refused" : "Accepted";
    return `${word} everywhere after ${duration(elapsedMs, locale)}, on ${where}.`;
  }
  if (enforcedNoLaterThan === null) return `Not yet ${verdict} everywhere.`;
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  const latest = time.format(new Date(enforcedNoLaterThan));
  return `Not yet ${verdict} everywhere. It will be at ${latest} at the latest.`;
}

function duration(ms: number, locale: string | undefined): string {
  if (ms < 1) return "less than 1 ms";
  const [value, unit, digits] = ms < 1_000 ? [ms, "ms", 0] : [ms / 1_000, "s", 1];
  const format = new Intl.NumberFormat(locale, { maximumFractionDigits: digits });
  return `${format.format(value)} ${unit}`;
}
