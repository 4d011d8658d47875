import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

const WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

describe("accessibility", () => {
  const on = stage();

  for (const colorScheme of ["light", "dark"]) {
    test(`no page breaks a rule of WCAG 2.2 AA, ${colorScheme} and 360 px wide`, async () => {
      const api = await signedIn(on.keymark);
      const id = await api.createSystem(`Accessible, ${colorScheme}`);
      const { page, signIn, row } = await on.window();
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width: 360, height: 740 });
      await page.goto("/");
      await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
      await assertAccessible(page);

      await signIn();
      await row(`Accessible, ${colorScheme}`).waitFor();
      await assertAccessible(page);
      await page.goto("/systems/new");
      await page.getByLabel("System Name").fill("ab");
      await page.getByRole("button", { name: "Submit" }).click();
      await page.getByRole("alert").waitFor();
      await assertAccessible(page);
      await page.goto(`/systems/${id}`);
      await page.getByRole("button", { name: "Delete System" }).waitFor();
      await assertAccessible(page);
      await page.goto(`/systems/${id}/key`);
      await page.getByRole("button", { name: "Generate API Key" }).click();
      await page.getByRole("dialog").waitFor();
      await assertAccessible(page);
    });
  }
});

async function assertAccessible(page) {
  const { violations } = await new AxeBuilder({ page }).withTags(WCAG).analyze();
  assert.deepEqual(
    violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target)]),
    [],
  );
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(overflow, 0, "the page scrolls sideways");
}
