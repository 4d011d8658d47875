import { useId } from "preact/hooks";
import { CUSTOM, type EndChoice, type Preset } from "../text/ends";
import { SelectField } from "./select-field";

interface EndFieldProps {
  label: string;
  presets: readonly Preset[];
  choice: EndChoice;
  onChoose: (choice: EndChoice) => void;
}

/** Chooses when a key ends: one of the presets, or a date and time. */
export function EndField({ label, presets, choice, onChoose }: EndFieldProps) {
  const id = useId();
  return (
    <>
      <SelectField
        label={label}
        value={choice.preset}
        options={presets}
        onChoose={(preset) => onChoose({ ...choice, preset })}
      />
      {choice.preset === CUSTOM && (
        <div class="field time">
          <label for={id}>Date and time</label>
          {/* Uncontrolled: a half-typed date has no value, and would be erased. */}
          <input
            id={id}
            type="datetime-local"
            defaultValue={choice.local}
            onInput={(event) => onChoose({ ...choice, local: event.currentTarget.value })}
          />
        </div>
      )}
    </>
  );
}
