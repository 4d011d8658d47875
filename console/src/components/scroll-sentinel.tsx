import { useEffect, useRef } from "preact/hooks";
import { Skeleton } from "./skeleton";

/** How far below the viewport the sentinel may be, so that the next page is there before it is scrolled to. */
const PRELOAD_DISTANCE = "200%";

/** Marks the end of the loaded rows, and calls back when it is about to be scrolled into view. */
export function ScrollSentinel({ onReached }: { onReached: () => void }) {
  const ref = useRef<HTMLDivElement>(null);
  const latest = useRef(onReached);
  latest.current = onReached;
  useEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) latest.current();
      },
      { rootMargin: `${PRELOAD_DISTANCE} 0px` },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return (
    <div ref={ref}>
      <Skeleton lines={3} />
    </div>
  );
}
