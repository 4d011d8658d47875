import type { TargetedInputEvent } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { countCharacters } from "../text/characters";

interface CountedFieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  /** The most characters that the server accepts. More can be typed, to be shortened, and are marked. */
  max: number;
  hint: string;
  /** The height of the input. */
  lines: number;
  error?: string | undefined;
}

/** A labelled, optional text with a counter of its characters. */
export function CountedField(props: CountedFieldProps) {
  const { label, value, onInput, max, hint, lines, error } = props;
  const id = useId();
  const input = useRef<HTMLTextAreaElement>(null);
  const count = countCharacters(value);
  const tooLong = count > max;
  useLayoutEffect(() => {
    if (error !== undefined) input.current?.focus();
  }, [error]);
  return (
    <div class="field counted">
      <label for={id}>{label} (optional)</label>
      <textarea
        ref={input}
        id={id}
        rows={lines}
        value={value}
        onInput={(event: TargetedInputEvent<HTMLTextAreaElement>) =>
          onInput(event.currentTarget.value)
        }
        autoComplete="off"
        dir="auto"
        aria-invalid={tooLong || error !== undefined}
        aria-describedby={`${id}-hint`}
      />
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <p id={`${id}-hint`} class="quiet">
        {hint}{" "}
        <span class={tooLong ? "count error" : "count"}>
          {count} of {max} characters
        </span>
      </p>
    </div>
  );
}
