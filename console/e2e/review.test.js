import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi, verify } from "./support/api.js";
import { fixture } from "./support/fixture.js";

const inDays = (days) => new Date(Date.now() + days * 24 * 3_600_000).toISOString();

describe("a review", () => {
  const env = fixture();

  test("finds keys that expire, and suspends their systems although one of them fails", async () => {
    const api = await signInToApi(env.keymark);
    const ids = {};
    const keys = {};
    for (const name of ["Dead one", "Dead two", "Gone"]) {
      ids[name] = await api.createSystem(name);
      keys[name] = await api.generateKey(ids[name], inDays(3));
    }
    const window = await env.openWindow();
    const { page, signIn, row, button, link, assertClean } = window;
    await signIn();
    await link("Review").click();
    await page.getByRole("heading", { name: "Review", exact: true }).waitFor();
    await page.getByLabel("Find").selectOption("Key Expiring within");
    await row("Dead one").getByText("Expires in 3 days").waitFor();
    await button("Suspend").and(page.locator(":disabled")).waitFor();
    await assertAccessible(window, "a review");

    await page.getByLabel("Select all").check();
    await page.getByText("3 selected").waitFor();
    await button("Suspend").click();
    const dialog = page.getByRole("dialog", { name: "Suspend" });
    await dialog.getByText("Confirm: suspend 3 systems").waitFor();
    assert.equal(await dialog.getByRole("listitem").count(), 3);
    await dialog.getByLabel("Reason").fill("Never used");
    await assertAccessible(window, "confirming a bulk action");
    await api.deleteSystem(ids.Gone);
    await button("Confirm").click();
    await dialog.getByText("2 of 3 done, 1 failed").waitFor();
    const item = (name) => dialog.getByRole("listitem").filter({ hasText: name });
    await item("Dead one").getByText("Suspended").waitFor();
    await item("Gone").getByText("Failed: This system no longer exists.").waitFor();
    await item("Dead two").getByText("Suspended").waitFor();
    await assertAccessible(window, "a bulk action that is done");
    await button("Close").click();
    await row("Dead one").getByText("Suspended").waitFor();
    await row("Gone").getByText("Deleted").waitFor();
    assert.equal(await verify(env.keymark, keys["Dead two"]), "SUSPENDED");
    const { auditLog } = await api.query(
      "{ auditLog(filter: { actions: [SYSTEM_SUSPENDED] }) { nodes { reason } } }",
    );
    assert.deepEqual(auditLog.nodes, [{ reason: "Never used" }, { reason: "Never used" }]);

    await page.getByLabel("Find").selectOption("Suspended");
    await row("Dead two").waitFor();
    await page.setViewportSize({ width: 360, height: 740 });
    await assertAccessible(window, "a review, narrow");
    await page.getByLabel("Select Dead one").check();
    await button("Delete Systems").click();
    await page.getByText("Confirm: delete 1 system and their keys").waitFor();
    await button("Confirm").click();
    await page.getByText("1 of 1 done").waitFor();
    await button("Close").click();
    await row("Dead one").getByText("Deleted").waitFor();
    assert.equal(await verify(env.keymark, keys["Dead one"]), "REVOKED");
    assertClean();
  });

  test("finds systems that were never used", async () => {
    const api = await signInToApi(env.keymark);
    await api.generateKey(await api.createSystem("Never used"));
    const used = await api.createSystem("In use");
    assert.equal(await verify(env.keymark, await api.generateKey(used)), "VALID");
    const { page, signIn, row, link, assertClean } = await env.openWindow();
    await signIn(`/systems/${used}`);
    // Use is known some seconds after it happened, and shown live.
    await page.locator("dt:text('Last Used') + dd time").waitFor();
    await link("Review").click();
    await row("Never used").getByText("Created just now").waitFor();
    assert.equal(await row("In use").count(), 0);
    await page.getByLabel("Find").selectOption("Not Used for");
    await page.getByText("No systems were found.").waitFor();
    assertClean();
  });

  test("is stopped, and continued with what is left", async () => {
    const api = await signInToApi(env.keymark);
    for (const name of ["Left one", "Left two", "Left three"]) {
      await api.generateKey(await api.createSystem(name), inDays(3));
    }
    const { page, signIn, row, button } = await env.openWindow();
    await signIn("/review?find=expiring");
    for (const name of ["Left one", "Left two", "Left three"]) {
      await page.getByLabel(`Select ${name}`).check();
    }
    // Holds the first request until Stop was clicked.
    let release;
    const held = new Promise((resolve) => {
      release = resolve;
    });
    await page.route("**/graphql", async (route) => {
      if (route.request().postData()?.includes("mutation RevokeKey")) await held;
      await route.continue();
    });
    await button("Revoke API Keys").click();
    await button("Confirm").click();
    await page.getByText("0 of 3 done").waitFor();
    await button("Stop").click();
    release();
    await page.getByText("1 of 3 done, 2 not attempted").waitFor();
    await button("Close").click();
    await page.getByText("2 selected").waitFor();
    await button("Revoke API Keys").click();
    await button("Confirm").click();
    await page.getByText("2 of 2 done").waitFor();
    await button("Close").click();
    for (const name of ["Left one", "Left two", "Left three"]) {
      await row(name).getByText("Not generated").waitFor();
    }
  });

  test("finds keys that expire, are old, or were generated by an operator who is gone", async () => {
    await env.keymark.manageOperator(
      ...["add", "leaver", "--permissions=view,create,edit", "--password-stdin"],
    );
    const theirs = await signInToApi(env.keymark, "leaver");
    await theirs.generateKey(await theirs.createSystem("Left behind"), inDays(3));
    await env.keymark.manageOperator("remove", "leaver");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/review");
    await page.getByLabel("Find").selectOption("Key Expiring within");
    await row("Left behind").getByText("Expires in 3 days").waitFor();
    await page.getByLabel("Find").selectOption("Key Generated by");
    await page.getByLabel("Operator").selectOption("leaver (removed)");
    await row("Left behind").getByText("by leaver").waitFor();
    await page.getByText("1 system", { exact: true }).waitFor();
    assert.equal(await page.getByRole("rowheader").count(), 1);
    await page.reload();
    await row("Left behind").waitFor();
    await page.getByLabel("Find").selectOption("Key Older than");
    await page.getByText("No systems were found.").waitFor();
    assertClean();
  });
});
