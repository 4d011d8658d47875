import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";

const WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Asserts that what a window shows passes WCAG 2.2 AA, and does not scroll horizontally. */
export async function assertAccessible({ page, assertNoHorizontalScroll }, what) {
  const { violations } = await new AxeBuilder({ page }).withTags(WCAG).analyze();
  assert.deepEqual(
    violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target)]),
    [],
    what,
  );
  await assertNoHorizontalScroll(what);
}
