import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { fixture } from "./support/fixture.js";

describe("an operator's own page", () => {
  const env = fixture();

  test("shows what they may do and where they are signed in, and ends other sessions", async () => {
    await env.keymark.manageOperator(
      ...["add", "traveller", "--permissions=create", "--password-stdin"],
    );
    const others = [];
    for (let count = 0; count < 3; count += 1) {
      const other = await env.openWindow();
      await other.signIn("/my-sessions", "traveller");
      others.push(other);
    }
    const window = await env.openWindow();
    const { page, signIn, button, assertClean } = window;
    await signIn("/systems", "traveller");
    await page.getByRole("button", { name: "Signed in as" }).click();
    await page.getByRole("link", { name: "My sessions", exact: true }).click();
    await page.getByRole("heading", { name: "My sessions" }).waitFor();
    await page.getByText("Create systems and generate their keys").waitFor();
    const rows = page.getByRole("table", { name: "My sessions" }).locator("tbody tr");
    await rows.nth(3).waitFor();
    assert.equal(await rows.count(), 4);
    const current = rows.filter({ hasText: "This session" });
    assert.equal(await current.count(), 1);
    assert.equal(await current.getByRole("button").count(), 0);
    await page
      .getByRole("rowheader", { name: /^Chrome \d+ on Linux$/ })
      .first()
      .waitFor();
    await assertAccessible(window, "my sessions");
    await page.setViewportSize({ width: 360, height: 740 });
    await assertAccessible(window, "my sessions, narrow");
    await page.setViewportSize({ width: 1440, height: 900 });

    await rows.filter({ hasNotText: "This session" }).first().getByRole("button").click();
    await page.getByRole("dialog", { name: "End Session" }).waitFor();
    await assertAccessible(window, "ending a session");
    await button("Confirm").click();
    await page.getByText("1 session was ended. Applied everywhere").waitFor();
    await rows.nth(3).waitFor({ state: "detached" });
    await button("End all other sessions").click();
    await button("Confirm").click();
    await page.getByText("2 sessions were ended.").waitFor();
    await rows.nth(1).waitFor({ state: "detached" });
    await current.waitFor();
    assert.equal(await button("End all other sessions").count(), 0);
    for (const { page: other } of others)
      await other.getByText("Your session has ended.").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    assertClean();
  });

  test("shows a sign-in elsewhere while it is open", async () => {
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn("/my-sessions");
    const rows = page.getByRole("table", { name: "My sessions" }).locator("tbody tr");
    await rows.first().waitFor();
    const count = await rows.count();
    const elsewhere = await env.openWindow();
    await elsewhere.signIn("/systems");
    await rows.nth(count).waitFor();
    await page.getByText("Platform", { exact: true }).waitFor();
    await page.getByText("May act in every tenant").waitFor();
    await elsewhere.chooseFromMenu("Sign out");
    await rows.nth(count).waitFor({ state: "detached" });
    assertClean();
  });
});
