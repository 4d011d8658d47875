import { useEffect, useState } from "preact/hooks";
import { now } from "../live/now";
import { exactTime, relativeTime } from "../text/time";

interface TimeAgoProps {
  time: string;
  /** Whether the exact time is shown as well. Otherwise it appears on hover. */
  showExact?: boolean;
}

/** Shows how long ago a time was. */
export function TimeAgo({ time, showExact = false }: TimeAgoProps) {
  const then = new Date(time);
  const exact = exactTime(then);
  const [, setText] = useState("");
  // All rows share one timer, and the state is the text: a tick renders only the rows whose text changes.
  useEffect(() => now.observe((at) => setText(relativeTime(new Date(time), at))), [time]);
  return (
    <time dateTime={time} title={exact}>
      {relativeTime(then, new Date())}
      {showExact && <span class="exact">{exact}</span>}
    </time>
  );
}
