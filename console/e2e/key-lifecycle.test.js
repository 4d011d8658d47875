import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi, verify } from "./support/api.js";
import { contentsOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const inFuture = (ms) => new Date(Date.now() + ms).toISOString();

/** Returns a time as people enter it, in local time and to the minute. */
function localTime(time) {
  const date = new Date(time);
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 16);
}

describe("a key in time", () => {
  const env = fixture();

  /** Creates a system with a key, and opens one of its pages. */
  async function openSystem(name, page = "") {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem(name);
    const apiKey = await api.generateKey(id);
    const window = await env.openWindow();
    await window.signIn(`/systems/${id}${page}`);
    return { ...window, api, id, apiKey };
  }

  test("is rotated, extended and ended without an outage", async () => {
    const window = await openSystem("Rotated", "/key");
    const { page, button, apiKey, assertClean } = window;
    await button("Rotate Key").click();
    await assertAccessible(window, "rotating");
    const dialog = page.getByRole("dialog", { name: "Rotate Key" });
    await dialog.getByLabel("The current key is accepted for another").selectOption("7 days");
    await dialog.getByLabel("The new key expires after").selectOption("90 days");
    await button("Confirm").click();

    const shown = page.getByRole("dialog", { name: "API Key Rotated" });
    const newKey = await shown.getByLabel("API Key", { exact: true }).inputValue();
    await shown.getByText(`The old key ••••••••••••${apiKey.slice(-4)} goes on until`).waitFor();
    await assertAccessible(window, "a key that was rotated");
    await button("Copy").click();
    await button("Close").click();
    await page.getByText("The API key was rotated.").waitFor();
    assert.equal((await contentsOf(page)).includes(newKey), false);
    assert.equal(await verify(env.keymark, apiKey), "VALID");
    assert.equal(await verify(env.keymark, newKey), "VALID");
    await page.getByText("A rotation is in progress.").waitFor();

    const cockpit = page.getByRole("region", { name: "Rotation" });
    await cockpit
      .getByRole("heading", { name: `Old key ••••••••••••${apiKey.slice(-4)}` })
      .waitFor();
    await cockpit
      .getByRole("heading", { name: `New key ••••••••••••${newKey.slice(-4)}` })
      .waitFor();
    await cockpit.getByText("in 7 days").waitFor();
    await cockpit.getByText("in 90 days").waitFor();
    // The calls of each key appear live; those before the page was opened are in neither chart.
    await cockpit.getByText(`Calls with ••••${apiKey.slice(-4)} within the last minute`).waitFor();
    await cockpit.getByText(`Calls with ••••${newKey.slice(-4)} within the last minute`).waitFor();
    assert.equal(await verify(env.keymark, apiKey), "VALID");
    await cockpit.getByRole("img", { name: "2 calls in the last 10 minutes" }).waitFor();
    await cockpit.getByRole("img", { name: "1 call in the last 10 minutes" }).waitFor();
    await assertAccessible(window, "a rotation");
    await button("Extend").click();
    await assertAccessible(window, "extending");
    await page.getByLabel("It should end").selectOption("In 29 days");
    await button("Confirm").click();
    await page.getByText(/The old key now ends .* Applied everywhere/).waitFor();
    await cockpit.getByText("in 29 days").waitFor();

    await button("End Now").click();
    await page
      .getByRole("dialog")
      .getByText(`Calls with ••••${apiKey.slice(-4)}`)
      .waitFor();
    await assertAccessible(window, "ending a rotation");
    await page.getByLabel("Reason").fill("Everything has changed over");
    await button("Confirm").click();
    await page.getByText(/The rotation was ended. The old key is refused everywhere/).waitFor();
    await cockpit.waitFor({ state: "detached" });
    assert.equal(await verify(env.keymark, apiKey), "REVOKED");
    assert.equal(await verify(env.keymark, newKey), "VALID");
    await page.getByText(/was revoked just now by admin: Everything has changed over/).waitFor();
    assertClean();
  });

  test("is shown to other operators at once when it is rotated without an overlap", async () => {
    const { page, button, link, api, id, apiKey } = await openSystem("Watched");
    await api.query(
      "mutation ($id: ID!) { rotateKey(systemId: $id, overlapSeconds: 3600) { system { id } } }",
      { id },
    );
    const cockpit = page.getByRole("region", { name: "Rotation" });
    await cockpit.getByText("in 1 hour").waitFor();
    await link("Manage API Key").click();
    await button("Revoke API Key").click();
    await page.getByText("Confirm: revoke both keys").waitFor();
    await button("Confirm").click();
    await cockpit.waitFor({ state: "detached" });
    assert.equal(await verify(env.keymark, apiKey), "REVOKED");
  });

  test("expires as chosen when it is generated, and later, which the list shows", async () => {
    const window = await openSystem("Expiring", "/key");
    const { page, button, link, row, api, id, assertClean } = window;
    await api.query("mutation ($id: ID!) { revokeKey(systemId: $id) { system { id } } }", { id });
    await page.getByLabel("The key expires after").selectOption("30 days");
    await button("Generate API Key").click();
    await page.getByRole("dialog").getByText("Expires on").waitFor();
    await button("Copy").click();
    await button("Close").click();
    await page.getByText("Expires in 30 days").waitFor();

    await button("Change Expiry").click();
    await page.getByLabel("Date and time").fill(localTime(Date.now() - DAY_MS));
    await button("Confirm").click();
    await page.getByRole("dialog").getByRole("alert").filter({ hasText: "expiresAt" }).waitFor();
    await assertAccessible(window, "an expiry that is refused");
    await page.getByLabel("Date and time").fill(localTime(Date.now() + 2 * DAY_MS));
    await button("Confirm").click();
    await page.getByText(/The key now expires on .* Applied everywhere/).waitFor();
    await page.setViewportSize({ width: 360, height: 740 });
    await assertAccessible(window, "a key that expires, narrow");
    await link("API Key Management").click();
    await row("Expiring").getByText("Expires in 2 days").waitFor();
    await api.query(
      `mutation ($id: ID!, $at: DateTime) {
        setKeyExpiry(systemId: $id, expiresAt: $at) { system { id } }
      }`,
      { id, at: inFuture(DAY_MS) },
    );
    await row("Expiring").getByText("Expires tomorrow").waitFor();
    assertClean();
  });

  test("is refused while its system is suspended, and accepted again", async () => {
    const window = await openSystem("Suspended one");
    const { page, button, link, row, id, apiKey, assertClean } = window;
    await page.emulateMedia({ colorScheme: "dark" });
    await button("Suspend").click();
    await page.getByText("The step before deleting").waitFor();
    await page.getByLabel("Reason").fill("Does anything use it?");
    await page.getByText("21 of 200 characters").waitFor();
    await assertAccessible(window, "suspending");
    await button("Confirm").click();
    await page.getByText(/The system was suspended. Its key is refused everywhere/).waitFor();
    await page
      .getByRole("region", { name: "Suspended" })
      .getByText("Does anything use it?")
      .waitFor();
    await page
      .getByRole("rowheader", { name: "Suspended the system (reason: Does anything use it?)" })
      .waitFor();
    assert.equal(await verify(env.keymark, apiKey), "SUSPENDED");
    await assertAccessible(window, "a suspended system");
    await link("API Key Management").click();
    await row("Suspended one").getByText("Suspended", { exact: true }).waitFor();
    await assertAccessible(window, "badges");

    await page.goto(`/systems/${id}`);
    await button("Resume").click();
    await button("Confirm").click();
    await page.getByText(/The system was resumed. Its key is accepted everywhere/).waitFor();
    assert.equal(await verify(env.keymark, apiKey), "VALID");
    assertClean();
  });

  test("belongs to a system whose description and external ID are entered and edited", async () => {
    const { page, signIn, button, link, assertClean } = await env.openWindow();
    await signIn("/systems/new");
    await page.getByLabel("System Name").fill("Described");
    await page.getByLabel("Description").fill("x".repeat(501));
    await page.getByText("501 of 500 characters").waitFor();
    await button("Submit").click();
    await page.getByRole("alert").filter({ hasText: "500" }).waitFor();
    await page.getByLabel("Description").fill("Sends invoices");
    await button("Submit").click();
    await page.getByRole("definition").filter({ hasText: "Sends invoices" }).waitFor();

    await link("Edit").click();
    await page.getByLabel("System Name").fill("Described anew");
    await page.getByLabel("Description").fill("Sends invoices. Ask Ada.");
    await page.getByLabel("External ID").fill("cus_42");
    await button("Save").click();
    await page
      .getByText("Confirm: rename and describe the system, and change its external ID")
      .waitFor();
    assert.deepEqual(await page.getByRole("dialog").getByRole("definition").allTextContents(), [
      "Described",
      "Described anew",
      "Sends invoices",
      "Sends invoices. Ask Ada.",
      "None",
      "cus_42",
    ]);
    await button("Confirm").click();
    await page.getByRole("heading", { name: "System Detail: Described anew" }).waitFor();
    await page.getByRole("definition").filter({ hasText: "Sends invoices. Ask Ada." }).waitFor();
    await page.getByRole("definition").filter({ hasText: "cus_42" }).waitFor();

    await page.goto("/systems/new");
    await page.getByLabel("System Name").fill("Undescribed");
    await button("Submit").click();
    await link("Edit").click();
    await page.getByLabel("External ID").fill("cus_42");
    await button("Save").click();
    await page.getByText("Confirm: change the external ID").waitFor();
    await button("Confirm").click();
    await page.getByText("Another system already has this external ID.").waitFor();

    await page.goto("/systems?search=CUS_4");
    await page.getByRole("link", { name: "Described anew" }).waitFor();
    assertClean();
  });
});
