import type { EnforcementPartsFragment } from "../gql/graphql";

/** When the change counts: at once, unless an instance could not be asked in time. */
export function enforcementText(enforcement: EnforcementPartsFragment, locale?: string): string {
  const { state, enforcedNoLaterThan } = enforcement;
  if (state === "ENFORCED") return "No instance accepts the key any more.";
  if (enforcedNoLaterThan === null) return "Some instances may accept the key a little longer.";
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  return `Some instances may accept the key until ${time.format(new Date(enforcedNoLaterThan))}.`;
}
