import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn, verdictOn } from "./support/api.js";
import { stage } from "./support/stage.js";

describe("the console", () => {
  const on = stage();

  test("takes a system from its creation over a key and its revocation to its deletion", async () => {
    const { page, signIn, row, assertClean } = await on.window();
    await signIn();

    await page.getByRole("link", { name: "Create API key" }).click();
    await page.getByLabel("System Name").fill("Billing");
    await page.getByRole("button", { name: "Submit" }).click();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    await page.getByText("Not generated").waitFor();

    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const dialog = page.getByRole("dialog", { name: "API Key Generated" });
    const apiKey = await dialog.getByLabel("API Key", { exact: true }).inputValue();
    await dialog.getByText(`••••••••••••${apiKey.slice(-4)}`).waitFor();
    assert.equal(await verdictOn(on.keymark, apiKey), "VALID");

    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.mouse.click(5, 5);
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The key was copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), apiKey);
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.equal((await everythingIn(page)).includes(apiKey), false);

    await page.getByRole("button", { name: "Generate API Key", disabled: true }).waitFor();
    await page.getByRole("button", { name: "Revoke API Key" }).click();
    await page.getByRole("button", { name: "Confirm" }).click();
    await page
      .getByText(/The API key was revoked. Refused everywhere after .*on \d+ instance/)
      .waitFor();
    await page.getByText("Not generated").waitFor();
    assert.equal(await verdictOn(on.keymark, apiKey), "REVOKED");

    await page.getByRole("link", { name: "System Detail" }).click();
    await page.getByRole("button", { name: "Delete System" }).click();
    await page.getByRole("button", { name: "Confirm" }).click();
    await page.getByText("Billing was deleted.").waitFor();
    await row("Billing").waitFor({ state: "detached" });
    assert.equal(await verdictOn(on.keymark, apiKey), "REVOKED");
    assertClean();
  });

  test("says at the field that a name is taken or invalid", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Warehouse");
    const { page, signIn } = await on.window();
    await signIn("/systems/new");
    await page.getByRole("heading", { name: "Create System" }).waitFor();

    for (const [name, words] of [
      ["warehouse", "Another system already has this name."],
      ["ab", "at least 3 characters"],
    ]) {
      await page.getByLabel("System Name").fill(name);
      await page.getByRole("button", { name: "Submit" }).click();
      await page.getByRole("alert").filter({ hasText: words }).waitFor();
    }
  });

  test("filters while typing and keeps the filter in the address", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Straße (prod)");
    await api.createSystem("Ledger");
    const { page, signIn, row, assertClean } = await on.window();
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

  test("shows more than a page of systems, in order", async () => {
    const api = await signedIn(on.keymark);
    for (let number = 100; number < 155; number += 1) await api.createSystem(`Many ${number}`);
    const { page, signIn, row } = await on.window();
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

  test("asks to sign in first, refuses a wrong password, and ends the session with Sign out", async () => {
    const { page, signIn, choose, assertClean } = await on.window();
    await page.goto("/systems?search=x");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    await page.getByLabel("Username").fill("admin");
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("The username or password is incorrect.").waitFor();

    await signIn("/systems?search=x");
    assert.equal(new URL(page.url()).search, "?search=x");
    assert.equal(await page.evaluate(() => document.cookie), "");
    await choose("Sign out");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    await page.goto("/systems");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    assertClean();
  });
});

/** The page's markup and what its fields hold. */
const everythingIn = (page) =>
  page.evaluate(() => {
    const fields = Array.from(document.querySelectorAll("input, textarea"), ({ value }) => value);
    return [document.documentElement.outerHTML, ...fields].join("\n");
  });
