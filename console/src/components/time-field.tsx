import { useId } from "preact/hooks";

interface TimeFieldProps {
  label: string;
  /** Local time, as the input holds it. */
  value: string;
  onChoose: (value: string) => void;
}

/** A moment; it counts once the field is left or Enter is pressed, since half a date is none. */
export function TimeField({ label, value, onChoose }: TimeFieldProps) {
  const id = useId();
  const choose = (input: HTMLInputElement) => {
    if (input.value !== value) onChoose(input.value);
  };
  return (
    <div class="field time">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="datetime-local"
        defaultValue={value}
        key={value}
        onBlur={(event) => choose(event.currentTarget)}
        onKeyDown={(event) => {
          if (event.key === "Enter") choose(event.currentTarget);
        }}
      />
    </div>
  );
}
