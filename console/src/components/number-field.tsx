import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface NumberFieldProps {
  label: string;
  /** The text that was entered; empty for no number. */
  value: string;
  onInput: (value: string) => void;
  hint: string;
  error?: string | undefined;
}

/** A labelled, optional whole number. */
export function NumberField({ label, value, onInput, hint, error }: NumberFieldProps) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    if (error !== undefined) input.current?.focus();
  }, [error]);
  return (
    <div class="field">
      <label for={id}>{label} (optional)</label>
      <input
        ref={input}
        id={id}
        inputMode="numeric"
        autoComplete="off"
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
        aria-invalid={error !== undefined}
        aria-describedby={error === undefined ? `${id}-hint` : `${id}-error ${id}-hint`}
      />
      {error && (
        <p id={`${id}-error`} class="error" role="alert">
          {error}
        </p>
      )}
      <p id={`${id}-hint`} class="quiet">
        {hint}
      </p>
    </div>
  );
}
