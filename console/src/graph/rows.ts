import { compareNames } from "../text/names";

export interface Named {
  readonly id: string;
  readonly name: string;
}

/** A loaded page of a search's rows, which are ordered by name. */
export interface Page<Row extends Named> {
  readonly rows: readonly Row[];
  readonly hasNextPage: boolean;
}

/** The pages with the row where its name belongs; past the last loaded row it waits for its own page. */
export function withRow<Row extends Named>(pages: readonly Page<Row>[], row: Row): Page<Row>[] {
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

export const withoutRow = <Row extends Named>(
  pages: readonly Page<Row>[],
  id: string,
): Page<Row>[] =>
  pages.map((page) =>
    page.rows.some((row) => row.id === id)
      ? { ...page, rows: page.rows.filter((row) => row.id !== id) }
      : page,
  );
