import { useId } from "preact/hooks";

interface CheckFieldProps {
  label: string;
  hint: string;
  checked: boolean;
  onCheck: (checked: boolean) => void;
}

/** A labelled checkbox with a hint. */
export function CheckField({ label, hint, checked, onCheck }: CheckFieldProps) {
  const id = useId();
  return (
    <div class="choice">
      <input
        id={id}
        type="checkbox"
        checked={checked}
        aria-describedby={`${id}-hint`}
        onChange={(event) => onCheck(event.currentTarget.checked)}
      />
      <div>
        <label for={id}>{label}</label>
        <p id={`${id}-hint`} class="quiet">
          {hint}
        </p>
      </div>
    </div>
  );
}
