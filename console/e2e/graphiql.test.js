import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

// Starts after a known change, so that a change made before the server has subscribed is delivered too.
const subscription = (after) =>
  `subscription Changes { systemChanged(after: "${after}") { kind system { name } } }`;

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

  test("sends a bearer token from the headers editor with queries and subscriptions", async () => {
    const api = await signInToApi(env.keymark);
    const { page, assertClean, button } = await env.openWindow();
    await page.goto("/graphiql");
    await run(page, "query Viewer { viewer { username } }");
    await waitForResult(page, '"viewer": null');
    await button("Headers").click();
    await write(page, "Headers", JSON.stringify({ Authorization: `Bearer ${api.token}` }));
    await run(page, "query Viewer { viewer { username } }");
    await waitForResult(page, '"username": "admin"');
    await run(page, subscription(await api.latestCursor()));
    await page.getByRole("button", { name: "Stop query" }).waitFor();
    await api.createSystem("Seen by bearer");
    await waitForResult(page, '"name": "Seen by bearer"');
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
