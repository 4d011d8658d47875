import type { TargetedInputEvent } from "preact";
import { useId } from "preact/hooks";

interface FieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  type?: "password";
  autoComplete: string;
  hint?: string;
  error?: string | undefined;
  autoFocus?: boolean;
}

/** A labelled input that says at itself what is wrong with it. */
export function Field({ label, type, onInput, hint, error, ...rest }: FieldProps) {
  const id = useId();
  const about = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  const input = {
    id,
    "aria-invalid": error !== undefined,
    "aria-describedby": about === "" ? undefined : about,
    required: true,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => onInput(event.currentTarget.value),
    ...rest,
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {type === "password" ? <input type="password" {...input} /> : <input {...input} />}
      {error && (
        <p id={`${id}-error`} class="error" role="alert">
          {error}
        </p>
      )}
      {hint && (
        <p id={`${id}-hint`} class="quiet">
          {hint}
        </p>
      )}
    </div>
  );
}
