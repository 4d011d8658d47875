import type { TargetedSubmitEvent } from "preact";
import { Link } from "../router";
import { MAX_DESCRIPTION_CHARACTERS } from "../text/characters";
import { NAMING_ADVICE } from "../text/naming-advice";
import { CountedField } from "./counted-field";
import { Field } from "./field";

export interface SystemTexts {
  name: string;
  description: string;
  externalId: string;
}

interface SystemFormProps {
  texts: SystemTexts;
  onInput: (texts: SystemTexts) => void;
  error: { field: keyof SystemTexts; message: string } | undefined;
  /** The path that Cancel leads to. */
  cancelTo: string;
  submitLabel: string;
  /** Whether the external ID can be entered, as it can be of a system that exists. */
  withExternalId?: boolean;
  busy?: boolean;
  onSubmit: () => void;
}

/** The form for the name, the description and the external ID of a system, new or existing. */
export function SystemForm(props: SystemFormProps) {
  const { texts, onInput, error, cancelTo, submitLabel, busy = false, onSubmit } = props;
  const { withExternalId = false } = props;
  const errorAt = (field: keyof SystemTexts) =>
    error?.field === field ? error.message : undefined;
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    onSubmit();
  };
  return (
    <form onSubmit={submit} noValidate>
      <Field
        label="System Name"
        value={texts.name}
        onInput={(name) => onInput({ ...texts, name })}
        autoComplete="off"
        hint={NAMING_ADVICE}
        error={errorAt("name")}
        autoFocus
      />
      <CountedField
        label="Description"
        value={texts.description}
        onInput={(description) => onInput({ ...texts, description })}
        max={MAX_DESCRIPTION_CHARACTERS}
        hint="What the system is for, and whom to ask about it."
        lines={3}
        error={errorAt("description")}
      />
      {withExternalId && (
        <Field
          label="External ID (optional)"
          isOptional
          value={texts.externalId}
          onInput={(externalId) => onInput({ ...texts, externalId })}
          autoComplete="off"
          hint="Your own ID of this application, which verifications return."
          error={errorAt("externalId")}
        />
      )}
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
