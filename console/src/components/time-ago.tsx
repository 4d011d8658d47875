import { useEffect, useState } from "preact/hooks";
import { Observed } from "../live/observed";
import { exactTime, relativeTime } from "../text/time";

const TICK_MS = 15_000;

const now = new Observed(new Date());
setInterval(() => now.update(() => new Date()), TICK_MS);

/** How long ago something was; exactly when, on hover. */
export function TimeAgo({ time }: { time: string }) {
  const then = new Date(time);
  const [, setWords] = useState("");
  // One clock for a thousand rows, of which few say something else after a tick.
  useEffect(() => now.observe((at) => setWords(relativeTime(new Date(time), at))), [time]);
  return (
    <time dateTime={time} title={exactTime(then)}>
      {relativeTime(then, new Date())}
    </time>
  );
}
