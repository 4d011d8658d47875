interface SkeletonProps {
  /** The expected height of the content in lines, so that nothing moves when it appears. */
  lines: number;
}

/** Takes the place of content that is loading. It fades in late, so that quick loads do not flicker. */
export function Skeleton({ lines }: SkeletonProps) {
  return (
    <div class="skeleton">
      <span class="visually-hidden" role="status">
        Loading…
      </span>
      <span class="bones" aria-hidden="true" style={{ height: `${lines * 2.5}rem` }} />
    </div>
  );
}
