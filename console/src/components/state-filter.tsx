import type { KeyState } from "@keymark/client/documents";
import { isKeyState, KEY_STATES } from "../text/key-state";

interface StateFilterProps {
  state: KeyState | undefined;
  onChoose: (state: KeyState | undefined) => void;
}

/** Filters the list by the state of the key. */
export const StateFilter = ({ state, onChoose }: StateFilterProps) => (
  <select
    class="state-filter"
    aria-label="Key state"
    value={state ?? ""}
    onChange={({ currentTarget: { value } }) => onChoose(isKeyState(value) ? value : undefined)}
  >
    <option value="">Any state</option>
    {Object.entries(KEY_STATES).map(([value, text]) => (
      <option key={value} value={value}>
        {text}
      </option>
    ))}
  </select>
);
