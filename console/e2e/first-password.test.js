import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { fixture } from "./support/fixture.js";
import { operator, startWithGeneratedPassword } from "./support/keymark.js";

const CHOSEN = "chosen by a person";

describe("the generated first password", () => {
  const env = fixture(startWithGeneratedPassword);

  test("has to be changed before anything else is shown", async () => {
    const { page, button, link, assertClean } = await env.openWindow();
    const heading = (name) => page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
    const fill = async (current, chosen) => {
      await page.getByLabel("Current password").fill(current);
      await page.getByLabel("New password", { exact: true }).fill(chosen);
      await page.getByLabel("New password, repeated").fill(chosen);
      await button("Change password").click();
    };
    await page.goto("/audit");
    await page.getByLabel("Username").fill(operator.username);
    await page.getByLabel("Password").fill(env.keymark.password);
    await button("Sign in").click();
    await heading("Choose a password");
    const { violations } = await new AxeBuilder({ page }).analyze();
    assert.deepEqual(violations, []);
    for (const path of ["/", "/systems", "/systems/new", "/audit", "/sign-in"]) {
      await page.goto(path);
      await heading("Choose a password");
      assert.equal(await page.getByRole("link").count(), 0, `${path} leads elsewhere`);
      assert.equal(await page.getByRole("banner").count(), 0, `${path} shows the top bar`);
    }
    await page.goto("/audit");
    await fill(env.keymark.password, "short");
    await page.getByText("This password is too short.").waitFor();
    await fill(env.keymark.password, "Password1234!");
    await page.getByText("This password is too common.").waitFor();
    await fill(env.keymark.password, env.keymark.password);
    await page.getByText("This is the generated password.").waitFor();
    await heading("Choose a password");
    await fill(env.keymark.password, CHOSEN);
    await heading("Audit Log");
    await page.reload();
    await heading("Audit Log");
    await link("API Keys").click();
    await page.getByText("Live", { exact: true }).waitFor();
    assertClean();
  });
});
