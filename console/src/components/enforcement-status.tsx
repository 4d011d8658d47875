import type { EnforcementPartsFragment } from "@keymark/client/documents";
import { enforcementText, type Verdict } from "../text/enforcement";

interface EnforcementStatusProps {
  verdict: Verdict;
  enforcement: EnforcementPartsFragment;
  /** Names the key if the text before does not. */
  subject?: string;
}

/** Shows how far a change is enforced; a pending one is highlighted. */
export const EnforcementStatus = ({ verdict, enforcement, subject }: EnforcementStatusProps) => (
  <span class={enforcement.state === "PENDING" ? "pending" : undefined}>
    {enforcementText(verdict, enforcement, { subject })}
  </span>
);
