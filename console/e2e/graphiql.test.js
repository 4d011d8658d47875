import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { contentsOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";
import { operator } from "./support/keymark.js";

// Starts after a known change, so that a change made before the server has subscribed is delivered too.
const subscription = (after) =>
  `subscription Changes { systemChanged(after: "${after}") { kind system { name } } }`;

const SECRET = "canary-of-the-browser-test";
const changePassword = (password) =>
  `mutation Change { changePassword(currentPassword: "${password}", newPassword: "${password}") { token } }`;
const storageOf = (page) =>
  page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));

describe("GraphiQL", () => {
  const env = fixture();

  test("runs a query with the console's cookie", async () => {
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn();
    await page.goto("/graphiql");
    await run(page, "query Viewer { viewer { username tenantId } }");
    await waitForResult(page, '"username": "admin"');
    assertClean();
  });

  test("shows a change made while a subscription is open", async () => {
    const api = await signInToApi(env.keymark);
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn();
    await page.goto("/graphiql");
    await run(page, subscription(await api.latestCursor()));
    await page.getByRole("button", { name: "Stop query" }).waitFor();
    await api.createSystem("Seen in GraphiQL");
    await waitForResult(page, '"name": "Seen in GraphiQL"');
    assertClean();
  });

  test("stores neither variables nor mutations, and has no headers", async () => {
    const { page, signIn, assertClean, button } = await env.openWindow();
    await signIn();
    await page.goto("/graphiql");
    await button("Variables").click();
    await write(page, "Variables", JSON.stringify({ text: SECRET }));
    await run(page, "query Search ($text: String) { systems(search: $text) { totalCount } }");
    await waitForResult(page, '"totalCount"');
    assert.equal(await button("Headers").count(), 0);
    await run(page, changePassword(SECRET));
    await waitForResult(page, '"code"');
    await run(page, "query Last { viewer { username } }");
    await waitForResult(page, '"username": "admin"');
    // The editors store their content with a delay.
    await page.waitForFunction(
      () =>
        ["query", "tabState", "queries"].every((name) =>
          localStorage.getItem(`graphiql:${name}`)?.includes("query Last"),
        ) && localStorage.getItem("graphiql:queries").includes("query Search"),
    );
    assert.doesNotMatch(await storageOf(page), new RegExp(`${SECRET}|mutation`));
    await button("Show History").click();
    const history = page.getByRole("region", { name: "History" });
    await history.getByText("Last", { exact: true }).waitFor();
    await history.getByText("Search", { exact: true }).waitFor();
    assert.equal(await history.getByText("Change", { exact: true }).count(), 0);
    assertClean();
  });

  for (const [end, endSession] of [
    ["the operator signs out of the console", ({ chooseFromMenu }) => chooseFromMenu("Sign out")],
    [
      "the session of the console ends",
      () => env.keymark.manageOperator("set-password", operator.username, "--password-stdin"),
    ],
  ]) {
    test(`is cleared when ${end}`, async () => {
      const window = await env.openWindow();
      await window.signIn();
      const page = await window.page.context().newPage();
      await page.goto("/graphiql");
      await run(page, "query Cleared { viewer { username } }");
      await waitForResult(page, '"username": "admin"');
      await page.waitForFunction(() =>
        localStorage.getItem("graphiql:queries")?.includes("Cleared"),
      );
      const reloaded = page.waitForEvent("load");
      await endSession(window);
      await window.page.getByLabel("Username").waitFor();
      await reloaded;
      await page.getByRole("tab", { name: "Systems", selected: true }).waitFor();
      assert.doesNotMatch(await contentsOf(page), /Cleared|admin/);
      window.assertClean();
    });
  }

  test("is cleared when it signs out itself", async () => {
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn();
    await page.goto("/graphiql");
    await run(page, "query Cleared { viewer { username } }");
    await waitForResult(page, '"username": "admin"');
    const reloaded = page.waitForEvent("load");
    await run(page, "mutation Leave { signOut { signedOut } }");
    await reloaded;
    await page.getByRole("tab", { name: "Systems", selected: true }).waitFor();
    assert.doesNotMatch(await contentsOf(page), /Cleared|Leave|admin/);
    assertClean();
  });
});

// Pastes the text: the editor would add closing brackets to typed text.
async function write(page, editor, text) {
  await page.evaluate((pasted) => navigator.clipboard.writeText(pasted), text);
  await page.getByRole("region", { name: editor }).getByRole("textbox").focus();
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.press("ControlOrMeta+V");
}

async function run(page, document) {
  await write(page, "Operation Editor", document);
  const [, name] = document.split(" ");
  // The tab shows the operation's name once the editor has parsed the document.
  await page.getByRole("tab", { name, selected: true }).waitFor();
  await page.getByRole("button", { name: "Execute query" }).click();
}

/** Waits for a part of the result. The editor shows spaces as no-break spaces. */
const waitForResult = (page, text) =>
  page
    .getByRole("region", { name: "Result Window" })
    .getByText(new RegExp(text.replaceAll(" ", "\\s")))
    .first()
    .waitFor();
