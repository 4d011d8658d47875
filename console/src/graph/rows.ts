export interface IdentifiedRow {
  readonly id: string;
}

/** A loaded page of a list. */
export interface Page<Row extends IdentifiedRow> {
  readonly rows: readonly Row[];
  readonly hasNextPage: boolean;
  /** The row at the page's end cursor, as it was when the page was loaded; the next page starts after it. */
  readonly end?: Row | undefined;
}

/**
 * Returns the pages with the row at its place in the order. A row that belongs after the last loaded page is left out: it
 * comes with the page that is loaded next.
 */
export function withRow<Row extends IdentifiedRow>(
  pages: readonly Page<Row>[],
  row: Row,
  compare: (one: Row, other: Row) => number,
): Page<Row>[] {
  const others = withoutRow(pages, row.id);
  const target = others.findIndex(
    ({ rows, hasNextPage, end }) =>
      !hasNextPage ||
      rows.some((other) => compare(row, other) < 0) ||
      (end !== undefined && compare(row, end) <= 0),
  );
  return others.map((page, at) => {
    if (at !== target) return page;
    const before = page.rows.filter((other) => compare(other, row) < 0);
    return { ...page, rows: [...before, row, ...page.rows.slice(before.length)] };
  });
}

export const withoutRow = <Row extends IdentifiedRow>(
  pages: readonly Page<Row>[],
  id: string,
): Page<Row>[] =>
  pages.map((page) =>
    page.rows.some((row) => row.id === id)
      ? { ...page, rows: page.rows.filter((row) => row.id !== id) }
      : page,
  );
