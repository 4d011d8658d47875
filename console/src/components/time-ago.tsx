import { useEffect, useState } from "preact/hooks";
import { now } from "../live/now";
import { exactTime, relativeTime } from "../text/time";

interface TimeAgoProps {
  time: string;
  /** Where the exact time appears besides on hover: beside the text, or when the text gets the focus, or in the row. */
  exact?: "beside" | "on focus" | "in row";
}

/** Shows how long ago a time was. */
export function TimeAgo({ time, exact = "on focus" }: TimeAgoProps) {
  const then = new Date(time);
  const exactText = exactTime(then);
  const [, setText] = useState("");
  // All rows share one timer, and the state is the text: a tick renders only the rows whose text changes.
  useEffect(() => now.observe((at) => setText(relativeTime(new Date(time), at))), [time]);
  return (
    <time
      dateTime={time}
      title={exactText}
      {...(exact === "on focus" && { tabIndex: 0, "data-exact": exactText })}
    >
      {relativeTime(then, new Date())}
      {exact === "beside" && <span class="exact">{exactText}</span>}
    </time>
  );
}
