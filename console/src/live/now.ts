import { useEffect, useState } from "preact/hooks";
import { Observable } from "./observable";

const TICK_MS = 15_000;

/** The current time. All components share its timer. */
export const now = new Observable(new Date());
setInterval(() => now.update(() => new Date()), TICK_MS);

/** Renders the component again when time passes and what it shows of the time, as a text, has changed. */
export function useTick(shown: (now: Date) => string): void {
  const [, setText] = useState("");
  useEffect(() => now.observe((at) => setText(shown(at))));
}
