import { expect, test } from "vitest";
import { type Page, withoutRow, withRow as withRowInOrder } from "../src/graph/rows";
import { compareNames } from "../src/text/names";

interface NamedRow {
  readonly id: string;
  readonly name: string;
}

const page = (names: string, hasNextPage = false): Page<NamedRow> => {
  const rows = names.split(" ").filter(Boolean).map(named);
  return { rows, hasNextPage, end: rows.at(-1) };
};
const named = (name: string): NamedRow => ({ id: name.toLowerCase(), name });
const withRow = (pages: Page<NamedRow>[], row: NamedRow) =>
  withRowInOrder(pages, row, (one, other) => compareNames(one.name, other.name));
const shown = (pages: Page<NamedRow>[]) =>
  pages.map(({ rows }) => rows.map(({ name }) => name).join(" "));

test("a row is inserted at the place of its name", () => {
  expect(shown(withRow([page("Ada cleo")], named("Bob")))).toEqual(["Ada Bob cleo"]);
  expect(shown(withRow([page("Ada cleo", true), page("eve fay")], named("Dan")))).toEqual([
    "Ada cleo",
    "Dan eve fay",
  ]);
});

test("a row after the last one is shown if the last page is loaded", () => {
  expect(shown(withRow([page("")], named("Zoe")))).toEqual(["Zoe"]);
  expect(shown(withRow([page("Ada Bob")], named("Zoe")))).toEqual(["Ada Bob Zoe"]);
});

test("a row after the last loaded one is left to the next page", () => {
  expect(shown(withRow([page("Ada Bob", true)], named("Zoe")))).toEqual(["Ada Bob"]);
});

test("the last loaded row stays if it is not moved behind the end of its page", () => {
  const pages = [page("Ada Dan", true)];
  expect(shown(withRow(pages, named("Dan")))).toEqual(["Ada Dan"]);
  expect(shown(withRow(pages, { id: "dan", name: "Bob" }))).toEqual(["Ada Bob"]);
  expect(shown(withRow(pages, { id: "dan", name: "Eve" }))).toEqual(["Ada"]);
});

test("a row before the end of a page is inserted, also when the last row is gone", () => {
  const pages = withoutRow([page("Ada Dan", true)], "dan");
  expect(shown(withRow(pages, named("Cleo")))).toEqual(["Ada Cleo"]);
  expect(shown(withRow(pages, named("Eve")))).toEqual(["Ada"]);
});

test("a renamed row is moved, not duplicated", () => {
  const pages = [page("Ada Bob", true), page("Cleo Dan")];
  expect(shown(withRow(pages, { id: "ada", name: "Coco" }))).toEqual(["Bob", "Cleo Coco Dan"]);
});

test("an emptied page is skipped", () => {
  const pages = [page("", true), page("Cleo")];
  expect(shown(withRow(pages, named("Bob")))).toEqual(["", "Bob Cleo"]);
});

test("a deleted row is removed from its page", () => {
  expect(shown(withoutRow([page("Ada Bob", true), page("Cleo")], "bob"))).toEqual(["Ada", "Cleo"]);
});
