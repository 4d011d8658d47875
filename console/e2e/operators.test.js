import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi } from "./support/api.js";
import { contentsOf, heapOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";
import { operator } from "./support/keymark.js";

const MANAGER = "view,operator_management:view,operator_management:edit";

describe("an administrator", () => {
  const env = fixture();

  /** Adds an operator from the command line, who has the same password as all others. */
  const add = (username, permissions) =>
    env.keymark.manageOperator(
      ...["add", username, `--permissions=${permissions}`, "--password-stdin"],
    );

  /** In the dialog that shows a one-time password: copies it, and closes the dialog. */
  async function takePassword(page, title) {
    const dialog = page.getByRole("dialog", { name: title });
    const password = await dialog.getByLabel("One-time Password").inputValue();
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The password was copied.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    return password;
  }

  /** Signs in with a one-time password, and replaces it by the password of all operators. */
  async function signInFirst(username, password) {
    const window = await env.openWindow();
    const { page, button } = window;
    await page.goto("/");
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password").fill(password);
    await button("Sign in").click();
    await page.getByRole("heading", { name: "Choose a password" }).waitFor();
    await page.getByLabel("Current password").fill(password);
    await page.getByLabel("New password", { exact: true }).fill(operator.password);
    await page.getByLabel("New password, repeated").fill(operator.password);
    await button("Change password").click();
    await page.getByText("Live", { exact: true }).waitFor();
    return window;
  }

  test("adds an operator with a one-time password, which they replace", async () => {
    const window = await env.openWindow();
    const { page, signIn, link, button, row, assertClean } = window;
    await signIn();
    await link("Administration").first().click();
    await link("Operators").first().click();
    await row("admin").getByText("You").waitFor();
    await assertAccessible(window, "operators");
    await button("Add operator").click();
    const form = page.getByRole("dialog", { name: "Add Operator" });
    await form.getByLabel("Username").fill("admin");
    await button("Add").click();
    await form.getByText("Another operator has this username.").waitFor();
    await assertAccessible(window, "adding an operator");
    await form.getByLabel("Username").fill("newcomer");
    await form.getByLabel("api_key_management:view").check();
    await button("Add").click();
    const shown = page.getByRole("dialog", { name: "Operator Added" });
    await shown.waitFor();
    await assertAccessible(window, "a one-time password");
    await page.keyboard.press("Escape");
    const password = await takePassword(page, "Operator Added");
    await page.getByText("The operator newcomer was added.").waitFor();
    assert.equal((await contentsOf(page)).includes(password), false);
    assert.equal((await heapOf(page)).includes(password), false);
    await row("newcomer").getByText("API keys: view").waitFor();
    await row("newcomer").getByText("Never").waitFor();

    const theirs = await signInFirst("newcomer", password);
    await theirs.page.getByRole("searchbox").waitFor();
    await row("newcomer").getByText("just now").first().waitFor();
    await page.setViewportSize({ width: 360, height: 740 });
    await assertAccessible(window, "operators, narrow");
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.keyboard.press("/");
    await page.keyboard.type("newc");
    await page.getByText("1 operator matches").waitFor();
    await row("newcomer").getByRole("link").click();
    await page.getByRole("heading", { name: "Operator: newcomer" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/operators/newcomer");
    assertClean();
  });

  test("changes the codes of an operator, whose page follows", async () => {
    await add("changing", "view");
    const theirs = await env.openWindow();
    await theirs.signIn("/systems", "changing");
    const window = await env.openWindow();
    const { page, signIn, button, assertClean } = window;
    await signIn("/operators/changing");
    await page.getByText("api_key_management:view").waitFor();
    await assertAccessible(window, "an operator");
    await button("Change codes").click();
    const form = page.getByRole("dialog", { name: "Change Codes" });
    await form.getByLabel("api_key_management:create").check();
    await assertAccessible(window, "changing codes");
    await button("Save").click();
    await page.getByText("The permission codes were changed. Applied everywhere").waitFor();
    await page.getByText("Create systems and generate their keys").waitFor();
    await theirs.link("Create API key").waitFor();
    assertClean();
  });

  test("ends the sessions of an operator, one or all, and sees where they are signed in", async () => {
    await add("wanderer", "view");
    const [first, second] = [await env.openWindow(), await env.openWindow()];
    await first.signIn("/systems", "wanderer");
    const { page, signIn, button, assertClean } = await env.openWindow();
    await signIn("/operators/wanderer");
    const sessions = page.getByRole("table", { name: "Sessions" }).getByRole("row");
    await page.getByRole("rowheader", { name: /^Chrome \d+ on Linux$/ }).waitFor();
    await page.getByRole("cell", { name: "127.0.0.1" }).waitFor();
    await second.signIn("/systems", "wanderer");
    await sessions.nth(2).waitFor();
    await sessions.nth(1).getByRole("button").click();
    await button("Confirm").click();
    await page.getByText("1 session was ended. Applied everywhere").waitFor();
    await sessions.nth(2).waitFor({ state: "detached" });
    await button("End all sessions").click();
    await button("Confirm").click();
    await page.getByText("They are not signed in.").waitFor();
    for (const { page: theirs } of [first, second]) {
      await theirs.getByText("Your session has ended.").waitFor();
    }
    assertClean();
  });

  test("suspends an operator, resumes them, and resets their password", async () => {
    await add("suspect", "view");
    const theirs = await env.openWindow();
    await theirs.signIn("/systems", "suspect");
    const window = await env.openWindow();
    const { page, signIn, button, assertClean } = window;
    await signIn("/operators/suspect");
    await button("Suspend").click();
    await page.getByRole("dialog", { name: "Suspend Operator" }).waitFor();
    await assertAccessible(window, "suspending an operator");
    await button("Confirm").click();
    await page.getByText("suspect was suspended. Applied everywhere").waitFor();
    await page.getByRole("definition").getByText("Suspended").waitFor();
    await theirs.page.getByText("Your session has ended.").waitFor();
    await button("Resume").click();
    await button("Confirm").click();
    await page.getByText("suspect was resumed.").waitFor();
    await button("Reset password").click();
    await assertAccessible(window, "resetting a password");
    await button("Confirm").click();
    const password = await takePassword(page, "Password Reset");
    await page.getByText("The password was reset.").waitFor();
    await signInFirst("suspect", password);
    assertClean();
  });

  test("removes an operator, and is led to the keys that they generated", async () => {
    await add("leaver", "view,create,edit");
    const theirs = await signInToApi(env.keymark, "leaver");
    await theirs.generateKey(await theirs.createSystem("Left behind"));
    const window = await env.openWindow();
    const { page, signIn, button, link, row, assertClean } = window;
    await signIn("/operators/leaver");
    await page.getByText("1 key that they generated is still current.").waitFor();
    await button("Remove operator").click();
    const dialog = page.getByRole("dialog", { name: "Remove Operator" });
    await dialog.getByText("Removing the operator does not end it").waitFor();
    await assertAccessible(window, "removing an operator");
    await button("Confirm").click();
    await page.getByText("leaver was removed. Applied everywhere").waitFor();
    assert.equal(await row("leaver").count(), 0);
    await link("Review the keys generated by leaver").click();
    await row("Left behind").getByText("by leaver").waitFor();
    // Operators who are there can be chosen too.
    await page.getByLabel("Operator").selectOption("admin");
    assertClean();
  });

  test("of the platform adds operators in another tenant, whose log says so", async () => {
    const api = await signInToApi(env.keymark);
    await api.query('mutation { createTenant(id: "acme", name: "Acme") { tenant { id } } }');
    const { page, signIn, button, row, link, assertClean } = await env.openWindow();
    await signIn("/t/acme/operators");
    await page.getByText("There are no operators.").waitFor();
    await button("Add operator").click();
    await page.getByLabel("Username").fill("acme-admin");
    for (const code of ["view", "edit"]) {
      await page.getByLabel(`operator_management:${code}`).check();
    }
    await page.getByLabel("api_key_management:view").check();
    await button("Add").click();
    const password = await takePassword(page, "Operator Added");
    await row("acme-admin").getByText("Operators: view, edit").waitFor();

    const theirs = await signInFirst("acme-admin", password);
    await theirs.link("Administration").first().click();
    await theirs.link("Operators").first().click();
    await theirs.row("acme-admin").getByText("You").waitFor();
    assert.equal(await theirs.page.getByRole("table").getByRole("row").count(), 2);
    await theirs.button("Add operator").click();
    await theirs.page.getByRole("dialog").waitFor();
    assert.equal(await theirs.page.getByLabel("Operator of the platform").count(), 0);

    await row("acme-admin").getByRole("link").click();
    await page.getByRole("rowheader", { name: /^Chrome \d+ on Linux$/ }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/t/acme/operators/acme-admin");
    await link("Audit Log").click();
    const entry = page.getByRole("row").filter({ hasText: "Added the operator acme-admin" });
    await entry.getByText("Platform", { exact: true }).waitFor();
    assertClean();
  });

  test("cannot take the last administrator away", async () => {
    const { page, signIn, button } = await env.openWindow();
    await signIn("/operators/admin");
    await button("Change codes").click();
    await page.getByLabel("operator_management:edit").uncheck();
    await button("Save").click();
    await page.getByText("This would leave the tenant without anybody").waitFor();
    await button("Cancel").click();
    await button("Remove operator").click();
    await page.getByText("This is you: you will be signed out.").waitFor();
    await button("Confirm").click();
    await page.getByText("This would leave the tenant without anybody").waitFor();
    await button("Cancel").click();
    assert.equal(await button("Reset password").count(), 0);
  });

  test("can give only the codes that they hold, and loses the controls with theirs", async () => {
    await add("deputy", MANAGER);
    await add("subject", "view,delete");
    const { page, signIn, button, row } = await env.openWindow();
    await signIn("/operators/subject", "deputy");
    await button("Change codes").click();
    const form = page.getByRole("dialog", { name: "Change Codes" });
    assert.equal(await form.getByLabel("api_key_management:create").isDisabled(), true);
    await form.getByText("you cannot give it back").waitFor();
    await form.getByLabel("api_key_management:view").uncheck();
    await button("Save").click();
    await page.getByText("The permission codes were changed.").waitFor();
    await button("Reset password").click();
    await button("Confirm").click();
    // Who could sign in as the subject would hold it.
    await page.getByText("You need the permission code api_key_management:delete.").waitFor();
    await button("Cancel").click();
    await button("Change codes").click();
    await env.keymark.manageOperator(
      ...["set-permissions", "deputy", "view,operator_management:view"],
    );
    await form.waitFor({ state: "detached" });
    for (const name of ["Change codes", "Suspend", "Remove operator"]) {
      assert.equal(await button(name).count(), 0);
    }
    await page.goto("/operators");
    await row("subject").getByText("API keys: delete").waitFor();
    assert.equal(await button("Add operator").count(), 0);
  });

  test("sees the changes of others, and that the operator was removed", async () => {
    await add("watched", "view");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/operators");
    await row("watched").waitFor();
    await add("appeared", "view");
    await row("appeared").waitFor();
    await env.keymark.manageOperator("set-permissions", "appeared", "edit");
    await row("appeared").getByText("API keys: edit").waitFor();
    await row("watched").getByRole("link").click();
    await page.getByText("They are not signed in.").waitFor();
    await env.keymark.manageOperator("remove", "watched");
    await page.getByText("This operator was removed.").waitFor();
    assertClean();
  });

  test("manages operators with the keyboard alone", async () => {
    await add("typed", "view");
    const { page, signIn, button, assertClean } = await env.openWindow();
    await signIn("/operators");
    await page.getByRole("rowheader", { name: "typed" }).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("typed");
    await page.getByText("1 operator matches").waitFor();
    await page.getByRole("link", { name: "View typed" }).focus();
    await page.keyboard.press("Enter");
    await button("Suspend").focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Suspend");
    assertClean();
  });
});
