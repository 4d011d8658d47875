import type { TargetedSubmitEvent } from "preact";
import { Link } from "../router";
import { NAMING_ADVICE } from "../text/naming-advice";
import { Field } from "./field";

interface SystemNameFormProps {
  name: string;
  onInput: (name: string) => void;
  error: string | undefined;
  /** The path that Cancel leads to. */
  cancelTo: string;
  submitLabel: string;
  busy?: boolean;
  onSubmit: () => void;
}

/** The form for the name of a system, new or existing. */
export function SystemNameForm(props: SystemNameFormProps) {
  const { name, onInput, error, cancelTo, submitLabel, busy = false, onSubmit } = props;
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    onSubmit();
  };
  return (
    <form onSubmit={submit} noValidate>
      <Field
        label="System Name"
        value={name}
        onInput={onInput}
        autoComplete="off"
        hint={NAMING_ADVICE}
        error={error}
        autoFocus
      />
      <div class="actions">
        <Link to={cancelTo} class="button">
          Cancel
        </Link>
        <button type="submit" class="primary" disabled={busy}>
          {submitLabel}
        </button>
      </div>
    </form>
  );
}
