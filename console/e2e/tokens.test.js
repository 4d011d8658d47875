import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi } from "./support/api.js";
import { contentsOf, heapOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";

/** Calls the API with a token, and returns the status and the name of the caller. */
async function call(keymark, token, query = "{ viewer { username permissions } }") {
  const response = await fetch(keymark.graphql, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ query }),
  });
  return { status: response.status, viewer: (await response.json()).data?.viewer };
}

/** Verifies a key with a verifier token, and returns the status and the verdict. */
async function verifyWith(keymark, token, apiKey) {
  const response = await fetch(keymark.verification, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ apiKey }),
  });
  return { status: response.status, code: (await response.json().catch(() => ({}))).code };
}

describe("a token", () => {
  const env = fixture();

  test("of a backend is created, shown once, rotated with an overlap and revoked", async () => {
    const window = await env.openWindow();
    const { page, signIn, link, button, row, assertClean } = window;
    await signIn();
    await link("Administration").first().click();
    await link("Service Tokens").first().click();
    await page.getByText("There are no service tokens.").waitFor();
    await assertAccessible(window, "no service tokens");

    await button("Create token").click();
    const form = page.getByRole("dialog", { name: "Create Service Token" });
    await form.getByLabel("Name").fill(" ");
    await button("Create").click();
    await form.getByRole("alert").waitFor();
    await assertAccessible(window, "creating a service token");
    await form.getByLabel("Name").fill("Billing backend");
    await form.getByLabel("api_key_management:view").check();
    await page.keyboard.press("Enter");
    const shown = page.getByRole("dialog", { name: "Service Token Created" });
    const token = await shown.getByLabel("Service Token", { exact: true }).inputValue();
    assert.match(token, /^kmt_[0-9A-Za-z]{49}$/);
    await assertAccessible(window, "a new service token");
    const request = await shown.getByLabel("Request with this token").inputValue();
    assert.equal(request.includes(`Authorization: Bearer ${token}`), true);
    await page.keyboard.press("Escape");
    await shown.getByRole("button", { name: "Close" }).click();
    await shown.getByText("The token was not copied").waitFor();
    await shown.getByRole("button", { name: "Copy" }).click();
    await shown.getByText("The token was copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), token);
    await shown.getByRole("button", { name: "Close" }).click();
    await page.getByText("The token Billing backend was created.").waitFor();
    assert.equal((await contentsOf(page)).includes(token.slice(4)), false);
    assert.equal((await heapOf(page)).includes(token.slice(4)), false);
    await row("Billing backend").getByText("API keys: view").waitFor();
    await row("Billing backend").getByText("in 90 days").waitFor();
    assert.deepEqual(await call(env.keymark, token), {
      status: 200,
      viewer: { username: "Billing backend", permissions: ["api_key_management:view"] },
    });
    await assertAccessible(window, "service tokens");
    await page.setViewportSize({ width: 360, height: 740 });
    await assertAccessible(window, "service tokens, narrow");
    await page.setViewportSize({ width: 1440, height: 900 });

    await button("Rotate Billing backend").click();
    await page.getByLabel("The current token is accepted for another").selectOption("1 hour");
    await assertAccessible(window, "rotating a service token");
    await button("Confirm").click();
    const rotated = page.getByRole("dialog", { name: "Service Token Rotated" });
    await rotated.getByText("The old token goes on until").waitFor();
    const next = await rotated.getByLabel("Service Token", { exact: true }).inputValue();
    await rotated.getByRole("button", { name: "Copy" }).click();
    await rotated.getByText("The token was copied.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("The token Billing backend was rotated.").waitFor();
    await row("Billing backend").getByText(next.slice(-4)).waitFor();
    for (const good of [token, next]) assert.equal((await call(env.keymark, good)).status, 200);

    await button("Rotate Billing backend").click();
    await button("Confirm").click();
    await page.getByText("The token before the current one is still accepted.").waitFor();
    await button("Cancel").click();
    await button("Revoke Billing backend").click();
    await page.getByRole("dialog", { name: "Revoke Token" }).waitFor();
    await assertAccessible(window, "revoking a token");
    await button("Confirm").click();
    await page.getByText("The token Billing backend was revoked. Refused everywhere").waitFor();
    await page.getByText("There are no service tokens.").waitFor();
    for (const bad of [token, next]) assert.equal((await call(env.keymark, bad)).status, 401);
    assertClean();
  });

  test("of a gateway is created for all tenants or one, shown once and revoked", async () => {
    const api = await signInToApi(env.keymark);
    const apiKey = await api.generateKey(await api.createSystem("Verified"));
    const window = await env.openWindow();
    const { page, signIn, button, row, assertClean } = window;
    await signIn("/verifier-tokens");
    await button("Create token").click();
    const form = page.getByRole("dialog", { name: "Create Verifier Token" });
    await form.getByLabel("Name").fill("Edge proxy");
    await form.getByLabel("All tenants").check();
    await form.getByLabel("The token expires after").selectOption("Never");
    await assertAccessible(window, "creating a verifier token");
    await button("Create").click();
    const shown = page.getByRole("dialog", { name: "Verifier Token Created" });
    const token = await shown.getByLabel("Verifier Token", { exact: true }).inputValue();
    assert.match(token, /^kmv_[0-9A-Za-z]{49}$/);
    await assertAccessible(window, "a new verifier token");
    await shown.getByRole("button", { name: "Copy" }).click();
    await shown.getByRole("button", { name: "Close" }).click();
    await row("Edge proxy").getByText("Keys of all tenants").waitFor();
    await row("Edge proxy").getByText("Never", { exact: true }).first().waitFor();
    await assertAccessible(window, "verifier tokens");
    await button("Create token").click();
    await form.getByLabel("Name").fill("Own proxy");
    await page.keyboard.press("Enter");
    await shown.getByText("Expires on").waitFor();
    await shown.getByRole("button", { name: "Copy" }).click();
    await shown.getByRole("button", { name: "Close" }).click();
    await row("Own proxy").getByText("Keys of this tenant").waitFor();
    assert.deepEqual(await verifyWith(env.keymark, token, apiKey), { status: 200, code: "VALID" });
    await button("Revoke Edge proxy").click();
    await button("Confirm").click();
    await page.getByText("The token Edge proxy was revoked.").waitFor();
    await row("Edge proxy").waitFor({ state: "detached" });
    assert.equal((await verifyWith(env.keymark, token, apiKey)).status, 403);
    assertClean();
  });

  test("of another administrator appears and goes while the page is open", async () => {
    const api = await signInToApi(env.keymark);
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/service-tokens");
    await page.getByText("There are no service tokens.").waitFor();
    const { createServiceToken } = await api.query(
      `mutation {
        createServiceToken(name: "Elsewhere", permissions: []) { serviceToken { id } }
      }`,
    );
    await row("Elsewhere").waitFor();
    await api.query("mutation ($id: ID!) { revokeServiceToken(id: $id) { revokedTokenId } }", {
      id: createServiceToken.serviceToken.id,
    });
    await row("Elsewhere").waitFor({ state: "detached" });
    assertClean();
  });

  test("is managed only with the permission codes, which may be lost meanwhile", async () => {
    await env.keymark.manageOperator(
      ...["add", "clerk", "--permissions=view,operator_management:view,operator_management:edit"],
      "--password-stdin",
    );
    const { page, signIn, button, link } = await env.openWindow();
    await signIn("/service-tokens", "clerk");
    await button("Create token").click();
    const form = page.getByRole("dialog", { name: "Create Service Token" });
    await form.getByLabel("api_key_management:delete").and(page.locator(":disabled")).waitFor();
    assert.equal(await form.getByLabel("Token of the platform").count(), 0);
    const set = (codes) => env.keymark.manageOperator("set-permissions", "clerk", codes);
    await set("view,operator_management:view");
    await form.waitFor({ state: "detached" });
    assert.equal(await button("Create token").count(), 0);
    await set("view");
    await page.getByText("You need the permission code operator_management:view.").waitFor();
    await link("Service Tokens").waitFor({ state: "detached" });
  });
});
