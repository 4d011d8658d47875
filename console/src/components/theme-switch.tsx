import { useObservable } from "../live/observable";
import { chooseTheme, type Theme, theme } from "../theme/theme";

const NAMES: readonly [Theme, string][] = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function ThemeSwitch() {
  const chosen = useObservable(theme);
  return (
    <fieldset class="segments">
      <legend>Theme</legend>
      {NAMES.map(([value, name]) => (
        <label key={value}>
          <input
            type="radio"
            name="theme"
            value={value}
            checked={value === chosen}
            onChange={() => chooseTheme(value)}
          />
          {name}
        </label>
      ))}
    </fieldset>
  );
}
