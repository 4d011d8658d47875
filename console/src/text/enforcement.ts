import type { EnforcementPartsFragment } from "../gql/graphql";

/** How far a change has come: proved on every instance, or the moment from which on it holds anyway. */
export function enforcementText(
  word: "Refused" | "Accepted",
  enforcement: EnforcementPartsFragment,
  locale?: string,
): string {
  const { state, elapsedMs, instances, enforcedNoLaterThan } = enforcement;
  if (state === "ENFORCED") {
    const where = instances === 1 ? "1 instance" : `${instances} instances`;
    return `${word} everywhere after ${milliseconds(elapsedMs, locale)}, on ${where}.`;
  }
  const still = word === "Refused" ? "may still accept" : "may not yet accept";
  if (enforcedNoLaterThan === null) return `Some instances ${still} the key for a while.`;
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  return `Some instances ${still} the key until ${time.format(new Date(enforcedNoLaterThan))}.`;
}

function milliseconds(elapsed: number, locale: string | undefined): string {
  const format = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
  return elapsed < 1 ? "less than 1 ms" : `${format.format(elapsed)} ms`;
}
