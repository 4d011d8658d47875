interface TotalProps {
  /** Undefined while it is counted. */
  count: number | undefined;
  /** What is counted, in the singular and in the plural. */
  nouns: readonly [one: string, many: string];
  /** Whether only what matches a filter is counted. */
  filtered: boolean;
}

const format = new Intl.NumberFormat();

/** How many rows a list has, on all its pages. Its space is reserved, so that nothing moves when it appears. */
export function Total({ count, nouns: [one, many], filtered }: TotalProps) {
  const verb = filtered ? (count === 1 ? " matches" : " match") : "";
  return (
    <p class="total" role="status">
      {count !== undefined && `${format.format(count)} ${count === 1 ? one : many}${verb}`}
    </p>
  );
}
