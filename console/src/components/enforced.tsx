import type { EnforcementPartsFragment } from "../gql/graphql";
import { enforcementText, type Verdict } from "../text/enforcement";

interface EnforcedProps {
  verdict: Verdict;
  enforcement: EnforcementPartsFragment;
}

/** How far a change has come; what is not done yet stands out. */
export const Enforced = ({ verdict, enforcement }: EnforcedProps) => (
  <span class={enforcement.state === "PENDING" ? "pending" : undefined}>
    {enforcementText(verdict, enforcement)}
  </span>
);
