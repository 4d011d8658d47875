import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

describe("the audit log", () => {
  const env = fixture();

  test("is filtered by system, operator, action, outcome and time, kept in the URL", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Filtered");
    await api.renameSystem(id, "Filtered twice");
    await api.createSystem("Another");
    const { page, signIn, button, link, assertClean } = await env.openWindow();
    await signIn("/audit");
    const entry = (sentence) => page.getByRole("rowheader", { name: sentence });
    await link("Another").waitFor();

    await page.getByLabel("System", { exact: true }).fill("filtered twice");
    await page.waitForURL(`**/audit?systemId=${id}`);
    await link("Another").waitFor({ state: "detached" });
    await entry("Created the system").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), [
      "Renamed the system from Filtered",
      "Created the system",
    ]);
    await page.getByLabel("Action").selectOption("System renamed");
    await entry("Created the system").waitFor({ state: "detached" });
    await entry("Renamed the system from Filtered").waitFor();
    await page.reload();
    await entry("Renamed the system from Filtered").waitFor();
    assert.equal(await page.getByRole("rowheader").count(), 1);
    await page.goBack();
    await entry("Created the system").waitFor();

    await button("Show all").click();
    await page.getByLabel("Operator").selectOption("admin (you)");
    await page.getByLabel("Outcome").selectOption("Refused");
    await page.getByText("No entries match the filter.").waitFor();
    await button("Show all").click();
    await link("Another").waitFor();
    await page.getByLabel("To", { exact: true }).fill("2020-01-01T00:00");
    await page.getByLabel("To", { exact: true }).press("Enter");
    await page.getByText("No entries match the filter.").waitFor();
    assert.match(page.url(), /\?to=20(19|20)-/);
    assertClean();
  });

  test("announces new entries, and adds them on top only on request", async () => {
    const api = await signInToApi(env.keymark);
    const { page, signIn, button, assertClean } = await env.openWindow();
    await signIn("/audit?actions=SYSTEM_CREATED");
    const rows = page.getByRole("rowheader");
    await rows.first().waitFor();
    const before = await rows.count();
    const top = await rows.first().evaluate((row) => row.getBoundingClientRect().top);
    for (const name of ["New one", "New two", "New three"]) await api.createSystem(name);
    const newEntries = button("3 new entries");
    await newEntries.waitFor();
    assert.equal(await rows.count(), before);
    assert.equal(await rows.first().evaluate((row) => row.getBoundingClientRect().top), top);
    await newEntries.click();
    await page.getByRole("link", { name: "New three" }).waitFor();
    assert.equal(await rows.count(), before + 3);
    const time = page.getByRole("row").nth(1).locator("time");
    assert.match(await time.getAttribute("datetime"), /^20\d\d-.*Z$/);
    assert.match(await time.getAttribute("title"), /20\d\d/);
    assertClean();
  });

  test("is exported as filtered", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Exported");
    const { page, signIn } = await env.openWindow();
    await signIn(`/audit?systemId=${id}&actions=SYSTEM_CREATED`);
    for (const [name, extension] of [
      ["CSV", ".csv"],
      ["JSON Lines", ".jsonl"],
    ]) {
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.getByRole("link", { name, exact: true }).click(),
      ]);
      assert.equal(download.suggestedFilename().endsWith(extension), true);
      const text = await readFile(await download.path(), "utf8");
      assert.equal(text.includes("Exported"), true);
      assert.equal(text.includes("New one"), false);
    }
  });

  test("of a system is shown on its page and updates live", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Trailed");
    const { page, signIn, link } = await env.openWindow();
    await signIn(`/systems/${id}`);
    const trail = page.getByRole("table", { name: "Audit trail" });
    await trail.getByRole("rowheader", { name: "Created the system" }).waitFor();
    const key = await api.generateKey(id);
    await trail.getByRole("rowheader", { name: /^Generated the key •+/ }).waitFor();
    await page
      .getByRole("definition")
      .filter({ hasText: key.slice(-4) })
      .waitFor();
    await link("All entries").click();
    await page.waitForURL(`**/audit?systemId=${id}`);
    await page.getByRole("rowheader", { name: /^Generated the key •+/ }).waitFor();
  });
});
