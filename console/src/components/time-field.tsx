import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface TimeFieldProps {
  label: string;
  /** Local time, in the format of `datetime-local`. */
  value: string;
  error?: string | undefined;
  onChoose: (value: string) => void;
}

/** An input for a date and time. It reports on blur and on Enter, since a half-typed date has no value. */
export function TimeField({ label, value, error, onChoose }: TimeFieldProps) {
  const id = useId();
  const ref = useRef<HTMLInputElement>(null);
  // Not a controlled input: rendering would erase what is half-typed. Nor a new one for each value: it would lose the focus.
  useLayoutEffect(() => {
    const input = ref.current;
    if (input !== null && input.value !== value) input.value = value;
  }, [value]);
  const choose = (input: HTMLInputElement) => {
    if (input.value !== value) onChoose(input.value);
  };
  return (
    <div class="field time">
      <label for={id}>{label}</label>
      <input
        ref={ref}
        id={id}
        type="datetime-local"
        aria-invalid={error !== undefined}
        aria-describedby={error === undefined ? undefined : `${id}-error`}
        onBlur={(event) => choose(event.currentTarget)}
        onKeyDown={(event) => {
          if (event.key === "Enter") choose(event.currentTarget);
        }}
      />
      {error !== undefined && (
        <p id={`${id}-error`} class="error" role="alert">
          {error}
        </p>
      )}
    </div>
  );
}
