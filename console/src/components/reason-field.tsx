import { MAX_REASON_CHARACTERS } from "../text/characters";
import { CountedField } from "./counted-field";

interface ReasonFieldProps {
  value: string;
  onInput: (value: string) => void;
}

/** Why an operator takes something away. */
export const ReasonField = (props: ReasonFieldProps) => (
  <CountedField
    {...props}
    label="Reason"
    max={MAX_REASON_CHARACTERS}
    hint="Shown in the audit log."
    lines={2}
  />
);

/** Returns the reason as a variable, which is omitted if none was entered. */
export const given = (reason: string): { reason?: string } =>
  reason.trim() === "" ? {} : { reason: reason.trim() };
