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
  isOptional?: boolean;
  /** Focuses the input when it is mounted. */
  autoFocus?: boolean;
}

/** A labelled input with its hint and its error, which takes the focus whenever there is a new error. */
export function Field(props: FieldProps) {
  const { label, type = "text", value, onInput, autoComplete, hint, error, autoFocus } = props;
  const { isOptional = false } = props;
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const describedBy = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  // A layout effect: a plain one runs later, and could take the focus from where the operator has moved it by then.
  useLayoutEffect(() => {
    if (autoFocus) input.current?.focus();
  }, [autoFocus]);
  useLayoutEffect(() => {
    if (error !== undefined) input.current?.focus();
  }, [error]);
  const inputProps = {
    ref: input,
    id,
    value,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => onInput(event.currentTarget.value),
    required: !isOptional,
    autoComplete,
    "aria-invalid": error !== undefined,
    "aria-describedby": describedBy === "" ? undefined : describedBy,
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {type === "password" ? (
        <input type="password" {...inputProps} />
      ) : (
        <input dir="auto" {...inputProps} />
      )}
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
