// The promise under "Compatibility" in CHANGELOG.md, as far as the schema shows it.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { buildSchema, findBreakingChanges, parse, visit } from "graphql";

const ROOT = new URL("../../../", import.meta.url);
const RELEASES = new URL("tests/fixtures/", ROOT);
const schema = readFileSync(new URL("schema.graphql", ROOT), "utf8");

for (const release of readdirSync(RELEASES)) {
  test(`clients of ${release} find everything that they use in the schema`, () => {
    const released = readFileSync(new URL(`${release}/schema.graphql`, RELEASES), "utf8");
    assert.deepEqual(findBreakingChanges(buildSchema(released), buildSchema(schema)), []);
  });
}

test("what is deprecated says until when it stays", () => {
  assert.deepEqual(undated(schema), []);
});

test("a deprecation without a date is found", () => {
  const dated = 'type Query { a: Int @deprecated(reason: "Use `b`. Stays until 2027-12-31.") }';
  assert.deepEqual(undated(dated), []);
  assert.deepEqual(undated("type Query { a: Int @deprecated }"), [undefined]);
  assert.deepEqual(undated('enum E { A @deprecated(reason: "Use B.") B }'), ["Use B."]);
});

/** Returns the reasons of the deprecations that state no date. */
function undated(sdl) {
  const reasons = [];
  visit(parse(sdl), {
    Directive({ name, arguments: [reason] }) {
      if (name.value !== "deprecated") return;
      if (!/\buntil \d{4}-\d{2}-\d{2}\b/.test(reason?.value.value))
        reasons.push(reason?.value.value);
    },
  });
  return reasons;
}
