import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi, verify } from "./support/api.js";
import { fixture } from "./support/fixture.js";
import { startCluster } from "./support/keymark.js";

/** The status of a change that is enforced on both instances. */
const everywhere = (verdict) => new RegExp(`${verdict} everywhere after .*, on 2 instances\\.`);

describe("two instances on MongoDB", () => {
  const env = fixture(startCluster);

  test("show the same changes when systems and keys are created, renamed, revoked and deleted", async () => {
    const { keymark } = env;
    const watching = await env.openWindow(keymark.other);
    const working = await env.openWindow(keymark);
    await watching.signIn();
    await watching.page.getByText("There are no systems yet.").waitFor();
    await working.signIn("/systems/new");
    const { page, button, link } = working;

    await page.getByLabel("System Name").fill("Payroll");
    await button("Submit").click();
    await watching.row("Payroll").filter({ hasText: "Not generated" }).waitFor();

    await link("Edit").click();
    await page.getByLabel("System Name").fill("Payroll (staging)");
    await button("Save").click();
    await button("Confirm").click();
    await watching.row("Payroll (staging)").waitFor();

    await link("Manage API Key").click();
    const { apiKey } = await working.generateKey();
    await page.getByText(everywhere("Accepted")).waitFor();
    await working.closeWithoutCopying();
    await watching
      .row("Payroll (staging)")
      .filter({ hasText: `••••${apiKey.slice(-4)}` })
      .waitFor();
    assert.equal(await verify(keymark.other, apiKey), "VALID");

    await button("Revoke API Key").click();
    await button("Confirm").click();
    await page.getByText(everywhere("Refused")).waitFor();
    assert.equal(await verify(keymark.other, apiKey), "REVOKED");
    await watching.row("Payroll (staging)").filter({ hasText: "Not generated" }).waitFor();

    await link("System Detail").click();
    await button("Delete System").click();
    await button("Confirm").click();
    await watching.row("Payroll (staging)").waitFor({ state: "detached" });
    watching.assertClean();
    working.assertClean();
  });

  test("show changes made through either instance, and apply revoked permissions", async () => {
    const { keymark } = env;
    const here = await signInToApi(keymark);
    const there = await signInToApi(keymark.other);
    await keymark.manageOperator("add", "viewer", "--permissions=view,create", "--password-stdin");
    const { page, signIn, row, link } = await env.openWindow(keymark.other);
    await signIn("/", "viewer");
    await here.createSystem("Made here");
    await there.createSystem("Made there");
    await row("Made here").waitFor();
    await row("Made there").waitFor();
    const create = link("Create API key");
    await create.waitFor();
    await keymark.manageOperator("set-permissions", "viewer", "view");
    await create.waitFor({ state: "detached" });
    await keymark.manageOperator("remove", "viewer");
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
  });

  test("show operators and tokens that were added, and end a session, through the other one", async () => {
    const { keymark } = env;
    await keymark.manageOperator("add", "elsewhere", "--permissions=view", "--password-stdin");
    const [watching, working, theirs] = [
      await env.openWindow(keymark.other),
      await env.openWindow(keymark),
      await env.openWindow(keymark.other),
    ];
    await theirs.signIn("/systems", "elsewhere");
    await watching.signIn("/operators");
    await watching.row("elsewhere").waitFor();
    await working.signIn("/operators/elsewhere");
    await working.button("Suspend").click();
    await working.button("Confirm").click();
    await working.page.getByText(everywhere("Applied")).waitFor();
    await theirs.page.getByText("Your session has ended.").waitFor();
    await watching.row("elsewhere").getByText("Suspended").waitFor();
    await working.button("Remove operator").click();
    await working.button("Confirm").click();
    await working.page.getByText(everywhere("Applied")).waitFor();
    await watching.row("elsewhere").waitFor({ state: "detached" });

    await watching.link("Service Tokens").first().click();
    await watching.page.getByText("There are no service tokens.").waitFor();
    const here = await signInToApi(keymark);
    await here.query(
      'mutation { createServiceToken(name: "Shared", permissions: []) { serviceToken { id } } }',
    );
    await watching.row("Shared").waitFor();
    watching.assertClean();
    working.assertClean();
  });

  test("resume a window by its cursor after its instance restarts", async () => {
    const { keymark } = env;
    const there = await signInToApi(keymark.other);
    const id = await there.createSystem("Seen before");
    const { page, signIn, row } = await env.openWindow(keymark);
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
