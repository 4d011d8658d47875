import type { ComponentChildren } from "preact";
import type { List } from "../live/use-list";
import { LoadError } from "./load-error";
import { ScrollSentinel } from "./scroll-sentinel";
import { Skeleton } from "./skeleton";

interface ListContentProps<Row> {
  list: List<Row>;
  /** Shown instead of the rows if there are none. */
  empty: ComponentChildren;
  children: (rows: readonly Row[]) => ComponentChildren;
}

/** The rows of a list, or what takes their place; more are loaded by scrolling. */
export function ListContent<Row>({ list, empty, children }: ListContentProps<Row>) {
  const { rows, hasMore, error, loadMore, reload } = list;
  if (rows === undefined) {
    return error === undefined ? (
      <Skeleton lines={6} />
    ) : (
      <LoadError error={error} onRetry={reload} />
    );
  }
  return (
    <>
      {error && <LoadError error={error} onRetry={reload} />}
      {rows.length === 0 ? <section class="empty">{empty}</section> : children(rows)}
      {hasMore && !error && <ScrollSentinel key={rows.length} onReached={loadMore} />}
    </>
  );
}
