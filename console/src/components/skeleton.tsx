interface SkeletonProps {
  /** How many lines the content will take, so that nothing moves when it comes. */
  lines: number;
}

/** What takes the place of content on its way; visible only when it takes its time. */
export function Skeleton({ lines }: SkeletonProps) {
  return (
    <div class="skeleton">
      <span class="for-readers" role="status">
        Loading…
      </span>
      <span class="bones" aria-hidden="true" style={{ height: `${lines * 2.5}rem` }} />
    </div>
  );
}
