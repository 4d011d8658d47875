import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PASSWORD_RULE } from "../src/text/password-rule";

test("the rule for passwords is worded as the server words it", () => {
  expect(readFileSync("../schema.graphql", "utf8")).toContain(PASSWORD_RULE);
});
