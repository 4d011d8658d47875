import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";
import { operator } from "./support/keymark.js";

describe("with the keyboard alone", () => {
  const env = fixture();

  test("every task can be done, and the focus is never lost", async () => {
    const { page, row, assertClean } = await env.openWindow();
    const press = (key) => page.keyboard.press(key);
    const type = (text) => page.keyboard.type(text);
    const focused = (role, name) => waitForFocus(page, role, name);
    /** Presses Tab until the element has the focus. */
    const tabTo = async (role, name) => {
      const target = page.getByRole(role, { name, exact: true });
      await target.waitFor();
      for (let steps = 0; steps < 40; steps += 1) {
        if (await target.evaluate((element) => element === document.activeElement)) return;
        await press("Tab");
      }
      assert.fail(`${role} ${name} cannot be reached by Tab`);
    };
    const follow = async (role, name) => {
      await tabTo(role, name);
      await press("Enter");
    };

    await page.goto("/");
    await focused("textbox", "Username");
    await type(operator.username);
    await press("Tab");
    await type(operator.password);
    await press("Enter");
    await page.getByText("There are no systems yet.").waitFor();

    // Creates a system.
    await follow("link", "Create API key");
    await focused("textbox", "System Name");
    await type("ab");
    await press("Enter");
    await page.getByRole("alert").waitFor();
    await focused("textbox", "System Name");
    await type("c by keyboard");
    await press("Enter");
    await focused("heading", "System Detail: abc by keyboard");

    // Renames it: the dialog takes the focus, traps it, and returns it.
    await follow("link", "Edit");
    await focused("textbox", "System Name");
    await press("End");
    await type(" alone");
    await press("Enter");
    await page.getByRole("dialog", { name: "Confirm the changes" }).waitFor();
    for (let steps = 0; steps < 8; steps += 1) {
      await press("Tab");
      assert.equal(
        await page.evaluate(
          () =>
            document.activeElement === document.body || !!document.activeElement.closest("dialog"),
        ),
        true,
      );
    }
    await press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await focused("textbox", "System Name");
    // An Enter that is held down opens the dialog, and does not confirm it.
    await page.keyboard.down("Enter");
    await page.getByRole("dialog", { name: "Confirm the changes" }).waitFor();
    await page.keyboard.down("Enter");
    await page.keyboard.up("Enter");
    await focused("button", "Confirm");
    await press("Escape");
    await focused("textbox", "System Name");
    await press("Enter");
    await focused("button", "Confirm");
    await press("Enter");
    await focused("heading", "System Detail: abc by keyboard alone");
    await page.getByRole("definition").filter({ hasText: "abc by keyboard alone" }).waitFor();

    // Generates and copies the key, and closes the dialog.
    await follow("link", "Manage API Key");
    await focused("heading", "Manage API Key: abc by keyboard alone");
    await follow("button", "Generate API Key");
    await follow("button", "Copy");
    await page.getByText("The key was copied.").waitFor();
    await press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await focused("heading", "Manage API Key: abc by keyboard alone");

    // Revokes the key.
    await follow("button", "Revoke API Key");
    await press("Escape");
    await focused("button", "Revoke API Key");
    await press("Enter");
    await follow("button", "Confirm");
    await page.getByText("Refused everywhere").waitFor();
    await focused("heading", "Manage API Key: abc by keyboard alone");

    // Searches from anywhere on the list.
    await follow("link", "API Key Management");
    await focused("heading", "API Key Management");
    await press("/");
    await focused("searchbox", "Search systems");
    await type("keyb");
    await row("abc by keyboard alone").waitFor();
    await tabTo("link", "View abc by keyboard alone");
    const exactTimes = await row("abc by keyboard alone").evaluate(
      (focused) => getComputedStyle(focused, "::after").content,
    );
    assert.match(exactTimes, /Updated .*20\d\d.*Created .*20\d\d/);
    await press("Enter");
    await focused("heading", "System Detail: abc by keyboard alone");

    // Deletes the system.
    await follow("button", "Delete System");
    await follow("button", "Confirm");
    await focused("heading", "API Key Management");
    await page.getByText("abc by keyboard alone was deleted.").waitFor();

    // Filters the audit log.
    await follow("link", "Audit Log");
    await focused("heading", "Audit Log");
    await tabTo("combobox", "Action");
    await type("System d");
    await page.waitForURL("**/audit?actions=SYSTEM_DELETED");
    await page.getByRole("rowheader", { name: "Deleted the system and its key" }).waitFor();

    // Skips the top bar, and signs out from the menu.
    await page.reload();
    await page.getByRole("row").nth(1).waitFor();
    await press("Tab");
    await focused("link", "Skip to content");
    await press("Enter");
    // Administration is the first breadcrumb.
    await press("Tab");
    await press("Tab");
    await focused("link", "API Key Management");
    await page.reload();
    await page.getByRole("row").nth(1).waitFor();
    await follow("button", `Signed in as ${operator.username} of default`);
    await follow("button", "Sign out");
    await focused("textbox", "Username");
    assertClean();
  });

  test("changing the password keeps this session and ends the others", async () => {
    await env.keymark.manageOperator("add", "changer", "--permissions=view", "--password-stdin");
    const window = await env.openWindow();
    const other = await env.openWindow();
    await window.signIn("/", "changer");
    await other.signIn("/", "changer");
    const { page } = window;
    await window.chooseFromMenu("Change password");
    await waitForFocus(page, "textbox", "Current password");
    await page.keyboard.type("not it");
    await page.keyboard.press("Tab");
    await page.keyboard.type("another good password");
    await page.keyboard.press("Tab");
    await page.keyboard.type("another good passwort");
    await page.keyboard.press("Enter");
    await page.getByText("The passwords do not match.").waitFor();
    await page.getByLabel("New password, repeated").fill("another good password");
    await page.keyboard.press("Enter");
    await page.getByText("The current password is incorrect.").waitFor();
    await page.getByLabel("Current password").fill(operator.password);
    await page.keyboard.press("Enter");
    await page.getByText("Your password was changed.").waitFor();
    await other.page.getByText("Your session has ended.").waitFor();

    const api = await signInToApi(env.keymark);
    await api.createSystem("Still live");
    await window.row("Still live").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
  });
});

async function waitForFocus(page, role, name) {
  const element = await page.getByRole(role, { name, exact: true }).elementHandle();
  await page.waitForFunction((expected) => document.activeElement === expected, element);
}
