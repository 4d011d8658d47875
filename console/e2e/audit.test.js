import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
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

  test("is filtered by a system's name and Enter, which says if there is none", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Entered by name");
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn("/audit");
    const field = page.getByLabel("System", { exact: true });
    await field.fill("no such name");
    await field.press("Enter");
    await page.getByRole("alert").getByText("No system matches “no such name”.").waitFor();
    await field.fill("red by na");
    await field.press("Enter");
    await page.waitForURL(`**/audit?systemId=${id}`);
    assert.equal(await field.inputValue(), "Entered by name");
    assert.equal(await page.getByRole("alert").count(), 0);
    assertClean();
  });

  test("is filtered by a period, and says at the field that From is after To", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Made recently");
    const { page, signIn, button, link } = await env.openWindow();
    await page.setViewportSize({ width: 1280, height: 800 });
    await signIn("/audit");
    for (const [period, hours] of [
      ["Last hour", 1],
      ["Last 7 days", 7 * 24],
      ["Last 30 days", 30 * 24],
    ]) {
      await button(period).click();
      await link("Made recently").waitFor();
      const from = new Date(new URL(page.url()).searchParams.get("from"));
      assert.equal(Math.round((Date.now() - from) / 3_600_000), hours);
    }
    await button("Today").click();
    const field = (name) => page.getByLabel(name, { exact: true });
    await page.waitForFunction(() => /from=/.test(location.search));
    assert.match(await field("From").inputValue(), /^20\d\d-\d\d-\d\dT00:00$/);
    const fits = (input) => input.clientWidth >= input.scrollWidth && input.clientWidth > 200;
    assert.equal(await field("From").evaluate(fits), true);
    await field("To").fill("2020-01-01T00:00");
    await field("To").press("Enter");
    await page.getByRole("alert").getByText("From has to be before To.").waitFor();
    assert.equal(await field("From").getAttribute("aria-invalid"), "true");
    await page.getByText(/^Times are in .+ \(GMT.*\)\.$/).waitFor();
  });

  test("shows how many entries match, and all that an entry holds", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Opened");
    const key = await api.generateKey(id);
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn(`/audit?systemId=${id}`);
    await page.getByText("2 entries match").waitFor();
    const { auditLog } = await api.query(
      "query ($id: ID!) { auditLog(filter: { systemId: $id }) { nodes { number id requestId hash actor { id } } } }",
      { id },
    );
    const [entry] = auditLog.nodes;
    await page.getByRole("button", { name: `Details of entry ${entry.number}` }).click();
    for (const value of [
      ...[id, entry.id, entry.requestId, entry.hash, entry.actor.id],
      ...["KEY_GENERATED", "DONE", "127.0.0.1", key.slice(-4)],
    ]) {
      await page.getByRole("definition").getByText(value, { exact: true }).waitFor();
    }
    const axe = await new AxeBuilder({ page }).analyze();
    assert.deepEqual(axe.violations, []);
    await page.getByRole("button", { name: `Details of entry ${entry.number}` }).click();
    await page.getByRole("definition").first().waitFor({ state: "detached" });
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
    const { auditLog } = await api.query(
      "{ auditLog(filter: { actions: [SYSTEM_CREATED] }) { totalCount } }",
    );
    await page.getByText(`${auditLog.totalCount} entries match`).waitFor();
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
    await page.getByText("Export these entries:").waitFor();
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
