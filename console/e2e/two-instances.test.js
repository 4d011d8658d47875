import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn, verdictOn } from "./support/api.js";
import { startCluster } from "./support/keymark.js";
import { stage } from "./support/stage.js";

const everywhere = (verdict) => new RegExp(`${verdict} everywhere after .*, on 2 instances\\.`);

describe("two instances on MongoDB", () => {
  const on = stage(startCluster);

  test("show the same through create, rename, generate, revoke and delete", async () => {
    const { keymark } = on;
    const watching = await on.window(keymark.other);
    const working = await on.window(keymark);
    await watching.signIn();
    await watching.page.getByText("There are no systems yet.").waitFor();
    await working.signIn("/systems/new");
    const { page } = working;
    const button = (name) => page.getByRole("button", { name, exact: true });

    await page.getByLabel("System Name").fill("Payroll");
    await button("Submit").click();
    await watching.row("Payroll").filter({ hasText: "Not generated" }).waitFor();

    await page.getByRole("link", { name: "Edit", exact: true }).click();
    await page.getByLabel("System Name").fill("Payroll (staging)");
    await button("Save").click();
    await button("Confirm").click();
    await watching.row("Payroll (staging)").waitFor();

    await page.getByRole("link", { name: "Manage API Key" }).click();
    await button("Generate API Key").click();
    const apiKey = await page.getByLabel("API Key", { exact: true }).inputValue();
    await page.getByText(everywhere("Accepted")).waitFor();
    await button("Close").click();
    await watching
      .row("Payroll (staging)")
      .filter({ hasText: `••••${apiKey.slice(-4)}` })
      .waitFor();
    assert.equal(await verdictOn(keymark.other, apiKey), "VALID");

    await button("Revoke API Key").click();
    await button("Confirm").click();
    await page.getByText(everywhere("Refused")).waitFor();
    assert.equal(await verdictOn(keymark.other, apiKey), "REVOKED");
    await watching.row("Payroll (staging)").filter({ hasText: "Not generated" }).waitFor();

    await page.getByRole("link", { name: "System Detail" }).click();
    await button("Delete System").click();
    await button("Confirm").click();
    await watching.row("Payroll (staging)").waitFor({ state: "detached" });
    watching.assertClean();
    working.assertClean();
  });

  test("follow what the API does at either, and a permission code that is taken", async () => {
    const { keymark } = on;
    const here = await signedIn(keymark);
    const there = await signedIn(keymark.other);
    await keymark.manageOperator("add", "viewer", "--permissions=view,create", "--password-stdin");
    const { page, signIn, row } = await on.window(keymark.other);
    await signIn("/", "viewer");
    await here.createSystem("Made here");
    await there.createSystem("Made there");
    await row("Made here").waitFor();
    await row("Made there").waitFor();
    const create = page.getByRole("link", { name: "Create API key" });
    await create.waitFor();
    await keymark.manageOperator("set-permissions", "viewer", "view");
    await create.waitFor({ state: "detached" });
    await keymark.manageOperator("remove", "viewer");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
  });

  test("catch a window up by the cursor when its instance comes back", async () => {
    const { keymark } = on;
    const there = await signedIn(keymark.other);
    const id = await there.createSystem("Seen before");
    const { page, signIn, row } = await on.window(keymark);
    await signIn("/systems?search=seen");
    await row("Seen before").waitFor();
    await keymark.restart(async () => {
      await page.getByText("Connection lost. Reconnecting…").waitFor();
      await there.createSystem("Seen meanwhile");
      await there.deleteSystem(id);
    });
    await row("Seen meanwhile").waitFor();
    await row("Seen before").waitFor({ state: "detached" });
    await page.getByText("Live", { exact: true }).waitFor();
  });
});
