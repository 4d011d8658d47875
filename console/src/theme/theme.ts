import { Observable } from "../live/observable";

export type Theme = "system" | "light" | "dark";

const STORAGE_KEY = "keymark-theme";

const isTheme = (value: string | null): value is Theme => value === "light" || value === "dark";

/** The theme that the operator chose for this browser; `system` follows the preference of the operating system. */
export const theme = new Observable<Theme>(storedTheme());

/** Shows the chosen theme, from now on and in every tab. */
export function startTheme(): void {
  theme.observe(apply);
  apply(theme.value);
  addEventListener("storage", ({ key }) => {
    if (key === STORAGE_KEY) theme.update(storedTheme);
  });
}

export function chooseTheme(chosen: Theme): void {
  try {
    if (chosen === "system") localStorage.removeItem(STORAGE_KEY);
    else localStorage.setItem(STORAGE_KEY, chosen);
  } catch {
    // Storage may be blocked or full; the theme then lasts as long as the page.
  }
  theme.update(() => chosen);
}

function storedTheme(): Theme {
  try {
    const stored = localStorage.getItem(STORAGE_KEY);
    return isTheme(stored) ? stored : "system";
  } catch {
    return "system";
  }
}

/** The styles use `light-dark()`, so the color scheme is all that a theme has to set. */
function apply(chosen: Theme): void {
  document.documentElement.dataset.theme = chosen;
}
