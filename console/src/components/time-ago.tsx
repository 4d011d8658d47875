import { useEffect, useState } from "preact/hooks";
import { Observable } from "../live/observable";
import { exactTime, relativeTime } from "../text/time";

const TICK_MS = 15_000;

const now = new Observable(new Date());
setInterval(() => now.update(() => new Date()), TICK_MS);

/** Shows how long ago a time was, and the exact time on hover. */
export function TimeAgo({ time }: { time: string }) {
  const then = new Date(time);
  const [, setText] = useState("");
  // All rows share one timer, and the state is the text: a tick renders only the rows whose text changes.
  useEffect(() => now.observe((at) => setText(relativeTime(new Date(time), at))), [time]);
  return (
    <time dateTime={time} title={exactTime(then)}>
      {relativeTime(then, new Date())}
    </time>
  );
}
