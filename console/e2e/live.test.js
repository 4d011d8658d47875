import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

describe("a list that is open", () => {
  const on = stage();

  test("shows what an operator does in another window", async () => {
    const watching = await on.window();
    const working = await on.window();
    await watching.signIn();
    await watching.page.getByText("There are no systems yet.").waitFor();
    await working.signIn("/systems/new");

    const { page } = working;
    await page.getByLabel("System Name").fill("Payroll");
    await page.getByRole("button", { name: "Submit" }).click();
    await watching.row("Payroll").filter({ hasText: "Not generated" }).waitFor();

    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const key = await page.getByLabel("API Key", { exact: true }).inputValue();
    await page.getByRole("button", { name: "Close" }).click();
    await watching
      .row("Payroll")
      .filter({ hasText: `••••${key.slice(-4)}` })
      .waitFor();

    await page.getByRole("link", { name: "System Detail" }).click();
    await page.getByRole("button", { name: "Delete System" }).click();
    await page.getByRole("button", { name: "Confirm" }).click();
    await watching.row("Payroll").waitFor({ state: "detached" });
    watching.assertClean();
    working.assertClean();
  });

  test("moves a renamed system to its new place", async () => {
    const api = await signedIn(on.keymark);
    const first = await api.createSystem("Alpha");
    await api.createSystem("Beta");
    const { page, signIn, row } = await on.window();
    await signIn();
    await row("Alpha").waitFor();
    await api.renameSystem(first, "gamma");
    await row("gamma").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), ["Beta", "gamma"]);
  });

  test("tells whoever has a deleted system open", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Short-lived");
    const { page, signIn } = await on.window();
    await signIn(`/systems/${id}`);
    await page.getByText("Short-lived").waitFor();
    await api.deleteSystem(id);
    await page.getByText("Short-lived was deleted by somebody else.").waitFor();
  });

  test("shows what the operator's permission codes allow, and follows a change of them", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Watched");
    await on.keymark.manageOperator("add", "watcher", "--permissions=view", "--password-stdin");
    const { page, signIn, row, assertClean } = await on.window();
    await signIn("/", "watcher");
    const create = page.getByRole("link", { name: "Create API key" });
    await row("Watched").waitFor();
    assert.equal(await create.count(), 0);

    await on.keymark.manageOperator("set-permissions", "watcher", "view,create");
    await create.waitFor();
    await on.keymark.manageOperator("set-permissions", "watcher", "create");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await row("Watched").count(), 0);
    await on.keymark.manageOperator("set-permissions", "watcher", "view");
    await row("Watched").waitFor();
    assertClean();
  });

  test("asks to sign in again as soon as the session is ended elsewhere", async () => {
    const { page, signIn, assertClean } = await on.window();
    await signIn("/systems?search=a");
    const other = await page.context().newPage();
    await other.goto("/");
    await other.getByRole("button", { name: "Signed in as" }).click();
    await other.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("Your session has ended. Sign in again to go on.").waitFor();
    await signIn(page.url());
    assert.equal(new URL(page.url()).pathname, "/systems");
    assertClean();
  });

  test("says that the connection is lost, keeps what it shows, and catches up", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Shown before");
    const { page, signIn, row } = await on.window();
    await signIn();
    await row("Shown before").waitFor();
    await on.keymark.restart(async () => {
      await page.getByText("Connection lost. Reconnecting…").waitFor();
      await page.getByRole("link", { name: "Create API key" }).click();
      await page.getByRole("link", { name: "API Key Management" }).click();
      await row("Shown before").waitFor();
    });
    await api.createSystem("Made meanwhile");
    await page.getByText("Live", { exact: true }).waitFor();
    await row("Made meanwhile").waitFor();
  });
});
