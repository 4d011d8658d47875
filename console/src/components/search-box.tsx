import { useLayoutEffect, useRef } from "preact/hooks";
import { keyGuard } from "./key-guard";

interface SearchBoxProps {
  /** What it does, such as "Search systems". */
  label: string;
  value: string;
  onInput: (value: string) => void;
  /** Called with the mark of a whole key that was pasted, which is not searched for. */
  onKey: (keyMark: string) => void;
}

/** Filters while typing. The / key focuses it from anywhere on the page. */
export function SearchBox({ label, value, onInput, onKey }: SearchBoxProps) {
  const input = useRef<HTMLInputElement>(null);
  // A layout effect, so that the shortcut works as soon as the box is visible.
  useLayoutEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const withModifier = event.ctrlKey || event.metaKey || event.altKey;
      if (event.key !== "/" || withModifier || takesKeys(event.target)) return;
      event.preventDefault();
      input.current?.focus();
      input.current?.select();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
  return (
    <search class="search-box">
      <input
        ref={input}
        type="search"
        aria-label={label}
        aria-keyshortcuts="/"
        placeholder={label}
        value={value}
        {...keyGuard({ value, onText: onInput, onKey })}
        autoComplete="off"
        spellcheck={false}
        dir="auto"
      />
      <span class="key" aria-hidden="true">
        /
      </span>
    </search>
  );
}

/** Whether the event target is a form control or inside a dialog. */
const takesKeys = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest("input, textarea, select, dialog") !== null;
