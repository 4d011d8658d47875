import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

const CONTROLS = {
  create: ["link", "Create API key"],
  manage: ["link", "Manage API Key"],
  edit: ["link", "Edit"],
  delete: ["button", "Delete System"],
  generate: ["button", "Generate API Key"],
  revoke: ["button", "Revoke API Key"],
};

describe("an operator", () => {
  const on = stage();

  async function signedInWith(username, codes) {
    const permissions = `--permissions=${codes}`;
    await on.keymark.manageOperator("add", username, permissions, "--password-stdin");
    const window = await on.window();
    const { page } = window;
    await window.signIn("/", username);
    /** Which controls are there. */
    const controls = async () => {
      const there = [];
      for (const [control, [role, name]] of Object.entries(CONTROLS)) {
        if ((await page.getByRole(role, { name, exact: true }).count()) > 0) there.push(control);
      }
      return there;
    };
    return { ...window, controls };
  }

  test("who may only see is shown no control", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Seen only");
    const { page, row, controls, assertClean } = await signedInWith("viewer", "view");
    await row("Seen only").waitFor();
    assert.deepEqual(await controls(), []);
    await page.goto(`/systems/${id}`);
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    assert.deepEqual(await controls(), []);
    await page.goto(`/systems/${id}/edit`);
    await page.getByText("You need the permission code api_key_management:edit.").waitFor();
    assert.equal(await page.getByRole("textbox").count(), 0);
    await page.goto(`/systems/${id}/key`);
    await page.getByText("You need the permission code api_key_management:create.").waitFor();
    assert.deepEqual(await controls(), []);
    await page.goto("/systems/new");
    await page.getByText("You need the permission code api_key_management:create.").waitFor();
    assertClean();
  });

  test("who may only create sees what they created, and its key", async () => {
    const api = await signedIn(on.keymark);
    const foreign = await api.createSystem("Not theirs");
    const { page, controls, assertClean } = await signedInWith("creator", "create");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await page.getByRole("searchbox").count(), 0);
    await page.getByRole("link", { name: "Create API key" }).click();
    await page.getByLabel("System Name").fill("Their own");
    await page.getByRole("button", { name: "Submit" }).click();
    await page.getByRole("definition").filter({ hasText: "Their own" }).waitFor();
    assert.deepEqual(await controls(), ["manage"]);
    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const key = await page.getByLabel("API Key", { exact: true }).inputValue();
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page
      .getByRole("definition")
      .filter({ hasText: key.slice(-4) })
      .waitFor();
    assert.deepEqual(await controls(), ["generate"]);
    assertClean();
    await page.goto(`/systems/${foreign}`);
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await page.getByText("Not theirs").count(), 0);
  });

  test("who may see and edit is offered neither creating nor deleting", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Edited");
    await api.generateKey(id);
    const { page, row, controls, assertClean } = await signedInWith("editor", "view,edit");
    await row("Edited").getByRole("link").click();
    await page.getByRole("link", { name: "Edit", exact: true }).waitFor();
    assert.deepEqual(await controls(), ["manage", "edit"]);
    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Revoke API Key" }).waitFor();
    assert.deepEqual(await controls(), ["revoke"]);
    assertClean();
  });

  test("who has no code at all is told so on every page, and can sign out", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Out of sight");
    const { page, controls, choose, assertClean } = await signedInWith("nobody", "");
    for (const address of ["/systems", `/systems/${id}`, `/systems/${id}/key`, "/audit"]) {
      await page.goto(address);
      await page.getByText("You need the permission code api_key_management:view.").waitFor();
      assert.deepEqual(await controls(), []);
      assert.equal(await page.getByText("Out of sight").count(), 0);
    }
    await choose("Sign out");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    assertClean();
  });

  test("gains and loses controls while the page is open, and keeps what they typed", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Given and taken");
    const { page, row, controls } = await signedInWith("changing", "view");
    await row("Given and taken").getByRole("link").click();
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    const set = (codes) => on.keymark.manageOperator("set-permissions", "changing", codes);
    const [deleteSystem, edit] = [
      page.getByRole("button", { name: "Delete System" }),
      page.getByRole("link", { name: "Edit", exact: true }),
    ];
    await set("view,delete");
    await deleteSystem.click();
    await page.getByRole("dialog", { name: "Delete System" }).waitFor();
    await set("view,create,edit");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.deepEqual(await controls(), ["manage", "edit"]);
    await set("view");
    await edit.waitFor({ state: "detached" });

    await set("view,create");
    await page.getByRole("link", { name: "API Key Management" }).click();
    await page.getByRole("link", { name: "Create API key" }).click();
    await page.getByLabel("System Name").fill("Half typed");
    await set("create");
    await page.getByRole("link", { name: "Audit Log" }).waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("System Name").inputValue(), "Half typed");
    await on.keymark.manageOperator("remove", "changing");
    await page.getByText("Your session has ended.").waitFor();
    assert.equal(await page.getByText("Half typed").count(), 0);
  });
});
