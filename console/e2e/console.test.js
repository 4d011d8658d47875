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
    await page.getByText("Create a separate system for each application").waitFor();
    await page.getByText("“checkout-service”").waitFor();
    await page.getByLabel("System Name").fill("Billing");
    await button("Submit").click();
    await page.getByRole("heading", { name: "System Detail: Billing" }).waitFor();
    await page.getByText("Not generated").waitFor();

    await link("Manage API Key").click();
    const { dialog, apiKey } = await generateKey();
    await dialog.getByText(`••••••••••••${apiKey.slice(-4)}`).waitFor();
    await dialog.getByText("secrets manager").waitFor();
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
    await page.getByText("An API key already exists.").waitFor();
    await button("Revoke API Key").click();
    await page.getByText("Confirm: revoke the key").waitFor();
    await button("Confirm").click();
    await page
      .getByText(/The API key was revoked. Refused everywhere after .*on \d+ instance/)
      .waitFor();
    await page.getByText("A new key can be generated if needed.").waitFor();
    await page.getByText("No API key exists that could be revoked.").waitFor();
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

  test("sorts by each column, keeps the order in the URL, and moves rows as they change", async () => {
    const api = await signInToApi(env.keymark);
    const ids = [];
    for (const name of ["Sorted b", "Sorted c", "Sorted a"]) ids.push(await api.createSystem(name));
    await api.renameSystem(ids[0], "Sorted B");
    const { page, signIn, row, button, assertClean } = await env.openWindow();
    await signIn("/systems?search=sorted");
    const namesAre = (...names) =>
      page.waitForFunction(
        (expected) =>
          Array.from(document.querySelectorAll("tbody th"), (th) => th.textContent).join() ===
          expected,
        names.join(),
      );
    const sorted = (direction) => page.locator(`th[aria-sort=${direction}]`).textContent();
    await namesAre("Sorted a", "Sorted B", "Sorted c");
    assert.equal(await sorted("ascending"), "System Name ▲");
    await button("System Name").click();
    await namesAre("Sorted c", "Sorted B", "Sorted a");
    await button("Created").click();
    await namesAre("Sorted a", "Sorted c", "Sorted B");
    await button("Last Updated").click();
    await namesAre("Sorted B", "Sorted a", "Sorted c");
    assert.equal(new URL(page.url()).search, "?search=sorted&sort=-updated");
    assert.equal(await sorted("descending"), "Last Updated ▼");
    await page.reload();
    await namesAre("Sorted B", "Sorted a", "Sorted c");

    await page.mouse.move(5, 5);
    await api.generateKey(ids[1]);
    await namesAre("Sorted c", "Sorted B", "Sorted a");
    await button("Last Updated").click();
    await namesAre("Sorted a", "Sorted B", "Sorted c");
    await row("Sorted a").waitFor();
    assertClean();
  });

  test("shows how many systems there are, and how many match", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Counted one");
    const { page, signIn } = await env.openWindow();
    await signIn("/systems?search=counted");
    await page.getByText("1 system matches", { exact: true }).waitFor();
    const id = await api.createSystem("Counted two");
    await page.getByText("2 systems match", { exact: true }).waitFor();
    await api.deleteSystem(id);
    await page.getByText("1 system matches", { exact: true }).waitFor();
    await page.getByRole("searchbox").fill("");
    const { systems } = await api.query("{ systems { totalCount } }");
    await page.getByText(`${systems.totalCount} systems`, { exact: true }).waitFor();
  });

  test("shows the id of a system, to be copied, and exact times without a mouse", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Identified");
    await api.generateKey(id);
    const { page, signIn, button } = await env.openWindow();
    await signIn(`/systems/${id}`);
    await page.getByRole("definition").filter({ hasText: id }).waitFor();
    await button("Copy ID").click();
    await button("Copied ID").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), id);
    const times = page.getByRole("definition").locator("time");
    assert.match(await times.first().textContent(), /20\d\d/);
    await api.query("mutation ($id: ID!) { suspendSystem(id: $id) { system { id } } }", { id });
    await page.getByText("The system was suspended").waitFor();
    const focusable = page.locator("time[tabindex]").first();
    await focusable.focus();
    const exactTime = await focusable.evaluate((time) => getComputedStyle(time, "::after").content);
    assert.match(exactTime, /20\d\d/);
  });

  test("is light or dark as the operator chooses, also after a reload and in other tabs", async () => {
    const { page, signIn } = await env.openWindow();
    await page.emulateMedia({ colorScheme: "light" });
    await signIn();
    const isDark = (tab) => tab.locator("html[data-theme=dark]").waitFor();
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await background();
    const other = await page.context().newPage();
    await other.goto("/");
    await page.bringToFront();
    await page.getByRole("button", { name: "Signed in as" }).click();
    await page.getByRole("radio", { name: "Dark" }).check();
    await isDark(page);
    await isDark(other);
    assert.notEqual(await background(), light);
    await page.reload();
    await isDark(page);
    await page.getByRole("button", { name: "Signed in as" }).click();
    await page.getByRole("radio", { name: "System" }).check();
    assert.equal(await background(), light);
    assert.equal(await page.evaluate(() => localStorage.length), 0);
  });

  test("shows the tenant and no shortcut on a phone", async () => {
    const { page, signIn, assertNoHorizontalScroll } = await env.openWindow();
    await page.setViewportSize({ width: 360, height: 740 });
    await signIn();
    await page
      .getByRole("button", { name: "Signed in as" })
      .getByText("default", { exact: true })
      .waitFor();
    assert.equal(await page.getByText("/", { exact: true }).isVisible(), false);
    const api = await signInToApi(env.keymark);
    await api.createSystem("On a phone");
    await page.getByRole("button", { name: "Last Updated" }).click();
    await page.waitForURL("**/systems?sort=-updated");
    await assertNoHorizontalScroll("the list");
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
