import type { TargetedClipboardEvent, TargetedInputEvent } from "preact";
import { parseSearch } from "../text/pasted-key";

interface Guarded {
  /** The text in the field. */
  value: string;
  onText: (text: string) => void;
  /** Called with the mark of a whole key, instead of `onText`. The field never contains the key, or no longer. */
  onKey: (keyMark: string) => void;
}

/** Returns the handlers of a search field that keep keys out of what is searched for. */
export const keyGuard = ({ value, onText, onKey }: Guarded) => ({
  onPaste(event: TargetedClipboardEvent<HTMLInputElement>) {
    const search = parseSearch(event.clipboardData?.getData("text") ?? "");
    if ("text" in search) return;
    event.preventDefault();
    onKey(search.keyMark);
  },
  onInput({ currentTarget }: TargetedInputEvent<HTMLInputElement>) {
    const search = parseSearch(currentTarget.value);
    if ("text" in search) return onText(search.text);
    // Dropped, or pasted in parts.
    currentTarget.value = value;
    onKey(search.keyMark);
  },
});
