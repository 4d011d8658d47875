import { expect, test } from "vitest";
import { type Named, type Page, withoutRow, withRow } from "../src/graph/rows";

const page = (names: string, hasNextPage = false): Page<Named> => ({
  rows: names.split(" ").filter(Boolean).map(named),
  hasNextPage,
});
const named = (name: string): Named => ({ id: name.toLowerCase(), name });
const shown = (pages: Page<Named>[]) =>
  pages.map(({ rows }) => rows.map(({ name }) => name).join(" "));

test("a row goes where its name belongs", () => {
  expect(shown(withRow([page("Ada cleo")], named("Bob")))).toEqual(["Ada Bob cleo"]);
  expect(shown(withRow([page("Ada cleo", true), page("eve fay")], named("Dan")))).toEqual([
    "Ada cleo",
    "Dan eve fay",
  ]);
});

test("a row at the very end is shown when the end is loaded", () => {
  expect(shown(withRow([page("")], named("Zoe")))).toEqual(["Zoe"]);
  expect(shown(withRow([page("Ada Bob")], named("Zoe")))).toEqual(["Ada Bob Zoe"]);
});

test("a row past the last loaded one waits for its page", () => {
  expect(shown(withRow([page("Ada Bob", true)], named("Zoe")))).toEqual(["Ada Bob"]);
});

test("a renamed row moves and is not doubled", () => {
  const pages = [page("Ada Bob", true), page("Cleo Dan")];
  expect(shown(withRow(pages, { id: "ada", name: "Coco" }))).toEqual(["Bob", "Cleo Coco Dan"]);
});

test("a page that others emptied is passed over", () => {
  const pages = [page("", true), page("Cleo")];
  expect(shown(withRow(pages, named("Bob")))).toEqual(["", "Bob Cleo"]);
});

test("a deleted row goes from wherever it is", () => {
  expect(shown(withoutRow([page("Ada Bob", true), page("Cleo")], "bob"))).toEqual(["Ada", "Cleo"]);
});
