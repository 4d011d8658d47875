import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

const CONTROLS = {
  create: ["link", "Create API key"],
  manage: ["link", "Manage API Key"],
  edit: ["link", "Edit"],
  delete: ["button", "Delete System"],
  generate: ["button", "Generate API Key"],
  revoke: ["button", "Revoke API Key"],
};

describe("an operator", () => {
  const env = fixture();

  /** Adds an operator with these permissions, and signs them in to a new window. */
  async function signInWith(username, permissions) {
    await env.keymark.manageOperator(
      ...["add", username, `--permissions=${permissions}`, "--password-stdin"],
    );
    const window = await env.openWindow();
    const { page } = window;
    await window.signIn("/", username);
    /** Returns the controls that the page shows. */
    const controls = async () => {
      const shown = [];
      for (const [control, [role, name]] of Object.entries(CONTROLS)) {
        if ((await page.getByRole(role, { name, exact: true }).count()) > 0) shown.push(control);
      }
      return shown;
    };
    return { ...window, controls };
  }

  test("who may only view is shown no controls", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Seen only");
    const { page, row, controls, assertClean } = await signInWith("viewer", "view");
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

  test("who may only create sees the system that they created, and its key", async () => {
    const api = await signInToApi(env.keymark);
    const foreign = await api.createSystem("Not theirs");
    const { page, button, link, controls, generateKey, closeWithoutCopying, assertClean } =
      await signInWith("creator", "create");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await page.getByRole("searchbox").count(), 0);
    await link("Create API key").click();
    await page.getByLabel("System Name").fill("Their own");
    await button("Submit").click();
    await page.getByRole("definition").filter({ hasText: "Their own" }).waitFor();
    assert.deepEqual(await controls(), ["manage"]);
    await link("Manage API Key").click();
    const { apiKey } = await generateKey();
    await closeWithoutCopying();
    await page
      .getByRole("definition")
      .filter({ hasText: apiKey.slice(-4) })
      .waitFor();
    assert.deepEqual(await controls(), ["generate"]);
    assertClean();
    await page.goto(`/systems/${foreign}`);
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await page.getByText("Not theirs").count(), 0);
  });

  test("who may view and edit cannot create or delete", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Edited");
    await api.generateKey(id);
    const { row, controls, assertClean, button, link } = await signInWith("editor", "view,edit");
    await row("Edited").getByRole("link").click();
    await link("Edit").waitFor();
    assert.deepEqual(await controls(), ["manage", "edit"]);
    await link("Manage API Key").click();
    await button("Revoke API Key").waitFor();
    assert.deepEqual(await controls(), ["revoke"]);
    assertClean();
  });

  test("without permissions sees the missing one on every page, and can sign out", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Out of sight");
    const { page, controls, chooseFromMenu, assertClean } = await signInWith("nobody", "");
    for (const address of ["/systems", `/systems/${id}`, `/systems/${id}/key`, "/audit"]) {
      await page.goto(address);
      await page.getByText("You need the permission code api_key_management:view.").waitFor();
      assert.deepEqual(await controls(), []);
      assert.equal(await page.getByText("Out of sight").count(), 0);
    }
    await chooseFromMenu("Sign out");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    assertClean();
  });

  test("gains and loses controls while the page is open, and keeps the typed text", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Granted and revoked");
    const { page, row, controls, button, link } = await signInWith("changing", "view");
    await row("Granted and revoked").getByRole("link").click();
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    const set = (permissions) =>
      env.keymark.manageOperator("set-permissions", "changing", permissions);
    await set("view,delete");
    await button("Delete System").click();
    await page.getByRole("dialog", { name: "Delete System" }).waitFor();
    await set("view,create,edit");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.deepEqual(await controls(), ["manage", "edit"]);
    await set("view");
    await link("Edit").waitFor({ state: "detached" });

    await set("view,create");
    await link("API Key Management").click();
    await link("Create API key").click();
    await page.getByLabel("System Name").fill("Half typed");
    await set("create");
    await link("Audit Log").waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("System Name").inputValue(), "Half typed");
    await env.keymark.manageOperator("remove", "changing");
    await page.getByText("Your session has ended.").waitFor();
    assert.equal(await page.getByText("Half typed").count(), 0);
  });
});
