import type { EnforcementPartsFragment } from "../gql/graphql";

/** What the instances do with a key once the change has reached them. */
export type Verdict = "refused" | "accepted";

/** How far a change has come: proved on every instance, or the moment from which on it holds anyway. */
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
  return `Not yet ${verdict} everywhere: at the latest at ${latest}.`;
}

function duration(ms: number, locale: string | undefined): string {
  if (ms < 1) return "less than 1 ms";
  const [value, unit, digits] = ms < 1_000 ? [ms, "ms", 0] : [ms / 1_000, "s", 1];
  const format = new Intl.NumberFormat(locale, { maximumFractionDigits: digits });
  return `${format.format(value)} ${unit}`;
}
