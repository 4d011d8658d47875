import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi, verify } from "./support/api.js";
import { contentsOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";

describe("the console", () => {
  const env = fixture();

  test("creates a system, generates and revokes its key, and deletes it", async () => {
    const { page, signIn, row, button, link, generateKey, assertClean } = await env.openWindow();
    await signIn();

    await link("Create API key").click();
    await page.getByLabel("System Name").fill("Billing");
    await button("Submit").click();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    await page.getByText("Not generated").waitFor();

    await link("Manage API Key").click();
    const { dialog, apiKey } = await generateKey();
    await dialog.getByText(`••••••••••••${apiKey.slice(-4)}`).waitFor();
    assert.equal(await verify(env.keymark, apiKey), "VALID");

    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.mouse.click(5, 5);
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The key was copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), apiKey);
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.equal((await contentsOf(page)).includes(apiKey), false);

    await page.getByRole("button", { name: "Generate API Key", disabled: true }).waitFor();
    await button("Revoke API Key").click();
    await button("Confirm").click();
    await page
      .getByText(/The API key was revoked. Refused everywhere after .*on \d+ instance/)
      .waitFor();
    await page.getByText("Not generated").waitFor();
    assert.equal(await verify(env.keymark, apiKey), "REVOKED");

    await link("System Detail").click();
    await button("Delete System").click();
    await button("Confirm").click();
    await page.getByText("Billing was deleted.").waitFor();
    await row("Billing").waitFor({ state: "detached" });
    assert.equal(await verify(env.keymark, apiKey), "REVOKED");
    assertClean();
  });

  test("shows at the field that a name is taken or invalid", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Warehouse");
    const { page, signIn, button } = await env.openWindow();
    await signIn("/systems/new");
    await page.getByRole("heading", { name: "Create System" }).waitFor();

    for (const [name, message] of [
      ["warehouse", "Another system already has this name."],
      ["ab", "at least 3 characters"],
    ]) {
      await page.getByLabel("System Name").fill(name);
      await button("Submit").click();
      await page.getByRole("alert").filter({ hasText: message }).waitFor();
    }
  });

  test("filters while typing and keeps the filter in the URL", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Straße (prod)");
    await api.createSystem("Ledger");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn();
    await row("Ledger").waitFor();

    await page.getByRole("searchbox", { name: "Search systems" }).pressSequentially("SSE (p");
    await row("Ledger").waitFor({ state: "detached" });
    await row("Straße (prod)").waitFor();
    await page.reload();
    await row("Straße (prod)").waitFor();
    assert.equal(await page.getByRole("searchbox").inputValue(), "SSE (p");
    assert.equal(await row("Ledger").count(), 0);

    await page.getByRole("searchbox").fill(".*");
    await page.getByText("No system matches “.*”.").waitFor();
    assertClean();
  });

  test("loads more than one page of systems in order", async () => {
    const api = await signInToApi(env.keymark);
    for (let number = 100; number < 155; number += 1) await api.createSystem(`Many ${number}`);
    const { page, signIn, row } = await env.openWindow();
    await signIn("/systems?search=Many");
    await row("Many 149").waitFor();
    await row("Many 149").scrollIntoViewIfNeeded();
    await row("Many 154").waitFor();

    await api.createSystem("Many 149b");
    await row("Many 149b").waitFor();
    const names = await page.getByRole("rowheader").allTextContents();
    assert.equal(names.length, 56);
    assert.deepEqual(names.slice(49, 52), ["Many 149", "Many 149b", "Many 150"]);
  });

  test("requires signing in, refuses a wrong password, and ends the session on Sign out", async () => {
    const { page, signIn, chooseFromMenu, assertClean, button } = await env.openWindow();
    await page.goto("/systems?search=x");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    await page.getByLabel("Username").fill("admin");
    await page.getByLabel("Password").fill("wrong");
    await button("Sign in").click();
    await page.getByText("The username or password is incorrect.").waitFor();

    await signIn("/systems?search=x");
    assert.equal(new URL(page.url()).search, "?search=x");
    assert.equal(await page.evaluate(() => document.cookie), "");
    await chooseFromMenu("Sign out");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    await page.goto("/systems");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    assertClean();
  });
});
