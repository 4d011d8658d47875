import { useEffect, useRef } from "preact/hooks";
import { Skeleton } from "./skeleton";

/** Two windows' height before its end, the next page is on its way. */
const AHEAD = "200%";

/** The end of what is loaded: says so when it is scrolled to. */
export function NextPage({ onReached }: { onReached: () => void }) {
  const ref = useRef<HTMLDivElement>(null);
  const latest = useRef(onReached);
  latest.current = onReached;
  useEffect(() => {
    const end = ref.current;
    if (end === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) latest.current();
      },
      { rootMargin: `${AHEAD} 0px` },
    );
    observer.observe(end);
    return () => observer.disconnect();
  }, []);
  return (
    <div ref={ref}>
      <Skeleton lines={3} />
    </div>
  );
}
