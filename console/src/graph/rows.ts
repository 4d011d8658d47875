import { compareNames } from "../text/names";

export interface NamedRow {
  readonly id: string;
  readonly name: string;
}

/** A loaded page of a list whose rows are ordered by name. */
export interface Page<Row extends NamedRow> {
  readonly rows: readonly Row[];
  readonly hasNextPage: boolean;
}

/**
 * Returns the pages with the row at the place of its name. A row that belongs after the last loaded one is left out: it
 * comes with the page that is loaded next.
 */
export function withRow<Row extends NamedRow>(pages: readonly Page<Row>[], row: Row): Page<Row>[] {
  const others = withoutRow(pages, row.id);
  const target = others.findIndex(
    ({ rows, hasNextPage }) =>
      !hasNextPage || rows.some((other) => compareNames(row.name, other.name) < 0),
  );
  return others.map((page, at) => {
    if (at !== target) return page;
    const before = page.rows.filter((other) => compareNames(other.name, row.name) < 0);
    return { ...page, rows: [...before, row, ...page.rows.slice(before.length)] };
  });
}

export const withoutRow = <Row extends NamedRow>(
  pages: readonly Page<Row>[],
  id: string,
): Page<Row>[] =>
  pages.map((page) =>
    page.rows.some((row) => row.id === id)
      ? { ...page, rows: page.rows.filter((row) => row.id !== id) }
      : page,
  );
