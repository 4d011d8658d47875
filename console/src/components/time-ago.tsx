import { useEffect, useReducer } from "preact/hooks";
import { exactTime, relativeTime } from "../text/time";

const TICK_MS = 15_000;

/** How long ago something was; exactly when, on hover. */
export function TimeAgo({ time }: { time: string }) {
  const [, tick] = useReducer((ticks: number) => ticks + 1, 0);
  useEffect(() => {
    const timer = setInterval(tick, TICK_MS);
    return () => clearInterval(timer);
  }, []);
  const then = new Date(time);
  return (
    <time dateTime={time} title={exactTime(then)}>
      {relativeTime(then, new Date())}
    </time>
  );
}
