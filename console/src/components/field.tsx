import type { TargetedInputEvent } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface FieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "password";
  autoComplete: string;
  hint?: string;
  error?: string | undefined;
  /** Takes the focus when it appears, and again when it is wrong. */
  autoFocus?: boolean;
}

/** A labelled input that says at itself what is wrong with it. */
export function Field(props: FieldProps) {
  const { label, type = "text", value, onInput, autoComplete, hint, error, autoFocus } = props;
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const about = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  // At once: later it would take the focus away from where somebody has put it meanwhile.
  useLayoutEffect(() => {
    if (autoFocus) input.current?.focus();
  }, [autoFocus]);
  useLayoutEffect(() => {
    if (error !== undefined) input.current?.focus();
  }, [error]);
  const given = {
    ref: input,
    id,
    value,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => onInput(event.currentTarget.value),
    required: true,
    autoComplete,
    "aria-invalid": error !== undefined,
    "aria-describedby": about === "" ? undefined : about,
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {type === "password" ? <input type="password" {...given} /> : <input dir="auto" {...given} />}
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
