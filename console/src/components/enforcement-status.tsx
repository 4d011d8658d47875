import type { EnforcementPartsFragment } from "../gql/graphql";
import { enforcementText, type Verdict } from "../text/enforcement";

interface EnforcementStatusProps {
  verdict: Verdict;
  enforcement: EnforcementPartsFragment;
}

/** Shows how far a change is enforced; a pending one is highlighted. */
export const EnforcementStatus = ({ verdict, enforcement }: EnforcementStatusProps) => (
  <span class={enforcement.state === "PENDING" ? "pending" : undefined}>
    {enforcementText(verdict, enforcement)}
  </span>
);
