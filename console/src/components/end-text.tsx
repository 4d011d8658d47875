import { useTick } from "../live/now";
import { endText, exactTime } from "../text/time";

/** Shows when a key ends: relative, and exact. */
export function EndText({ time }: { time: string | null }) {
  useTick((now) => (time === null ? "" : endText(new Date(time), now)));
  if (time === null) return <>Never</>;
  const end = new Date(time);
  return (
    <time dateTime={time}>
      {endText(end, new Date())}
      <span class="exact">{exactTime(end)}</span>
    </time>
  );
}
