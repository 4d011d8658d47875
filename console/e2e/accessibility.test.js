import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

/** The pages that are tested further elsewhere, and a text that they show once they are loaded. */
const ADMINISTRATION = [
  ["/operators", "1 operator"],
  ["/operators/admin", "End all sessions"],
  ["/service-tokens", "There are no service tokens."],
  ["/verifier-tokens", "There are no verifier tokens."],
  ["/my-sessions", "This session"],
];

describe("accessibility", () => {
  const env = fixture();

  for (const colorScheme of ["light", "dark"]) {
    test(`every page and dialog passes WCAG 2.2 AA, ${colorScheme}`, async () => {
      const api = await signInToApi(env.keymark);
      const id = await api.createSystem(`Accessible, ${colorScheme}`);
      const window = await env.openWindow();
      const { page, signIn, row, assertClean, button } = window;
      const dialog = () => page.getByRole("dialog").waitFor();
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width: 360, height: 740 });
      await page.goto("/");
      await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
      await assertAccessible(window, "signing in");

      await signIn();
      await row(`Accessible, ${colorScheme}`).waitFor();
      await assertAccessible(window, "the list");
      await page.setViewportSize({ width: 1440, height: 900 });
      await assertAccessible(window, "the wide list");
      await page.setViewportSize({ width: 2560, height: 1440 });
      await assertAccessible(window, "the widest list");
      await page.getByRole("searchbox").fill("no such name");
      await page.getByText("No system matches").waitFor();
      await assertAccessible(window, "no match");

      await page.goto("/systems/new");
      await page.getByLabel("System Name").fill("ab");
      await button("Submit").click();
      await page.getByRole("alert").waitFor();
      await assertAccessible(window, "creating");
      await page.goto(`/systems/${id}`);
      await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
      await assertAccessible(window, "a system");
      await button("Delete System").click();
      await dialog();
      await assertAccessible(window, "deleting");

      await page.goto(`/systems/${id}/edit`);
      await page.getByLabel("System Name").fill(`Renamed, ${colorScheme}`);
      await button("Save").click();
      await dialog();
      await assertAccessible(window, "confirming a name");
      await api.renameSystem(id, `Contested, ${colorScheme}`);
      await button("Cancel").click();
      await button("Keep what I typed").waitFor();
      await assertAccessible(window, "a name that is contested");

      await page.goto(`/systems/${id}/key`);
      await button("Generate API Key").click();
      await dialog();
      await assertAccessible(window, "a new key");
      await window.closeWithoutCopying();
      await button("Revoke API Key").click();
      await dialog();
      await assertAccessible(window, "revoking");
      await button("Confirm").click();
      await page.getByText("Refused everywhere").waitFor();
      await assertAccessible(window, "a key that is revoked");

      await page.setViewportSize({ width: 360, height: 740 });
      await page.goto("/audit");
      await page.getByRole("rowheader").first().waitFor();
      await api.deleteSystem(id);
      await button("1 new entry").waitFor();
      await assertAccessible(window, "the audit log");
      await page.setViewportSize({ width: 1440, height: 900 });
      await assertAccessible(window, "the wide audit log");

      for (const [path, loaded] of ADMINISTRATION) {
        await page.goto(path);
        await page.getByText(loaded).first().waitFor();
        await assertAccessible(window, path);
      }

      await page.goto(`/systems/${id}`);
      await page.getByText("This system does not exist.").waitFor();
      await assertAccessible(window, "not found");
      await page.getByRole("button", { name: "Signed in as" }).click();
      await assertAccessible(window, "the menu");
      await button("Change password").click();
      await dialog();
      await assertAccessible(window, "changing the password");
      assertClean();
    });
  }

  test("tables are tables to screen readers in the narrow layout too", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Read aloud");
    const { page, signIn, row } = await env.openWindow();
    await page.setViewportSize({ width: 360, height: 740 });
    await signIn("/systems?search=aloud");
    await row("Read aloud").waitFor();
    const client = await page.context().newCDPSession(page);
    const { nodes } = await client.send("Accessibility.getFullAXTree");
    const roles = nodes.filter(({ ignored }) => !ignored).map(({ role }) => role.value);
    for (const role of ["table", "row", "rowheader", "cell"]) {
      assert.equal(roles.includes(role), true, `${role} in ${[...new Set(roles)]}`);
    }
  });

  test("high contrast and reduced motion are respected", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Contrasted");
    const window = await env.openWindow();
    const { page, signIn, recordStyle } = window;
    await page.emulateMedia({ forcedColors: "active", reducedMotion: "reduce" });
    await signIn(`/systems/${id}`);
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    await assertAccessible(window, "high contrast");
    const recordedStyle = await recordStyle(".facts.changed", "animationName");
    await api.generateKey(id);
    assert.equal(await recordedStyle(), "none");
  });
});
