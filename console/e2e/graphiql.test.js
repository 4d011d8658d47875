import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

// From a known change on, so that it does not matter whether the next is made before the server has subscribed.
const subscription = (after) =>
  `subscription Changes { systemChanged(after: "${after}") { kind system { name } } }`;

describe("GraphiQL", () => {
  const on = stage();

  test("runs a query with the console's cookie", async () => {
    const { page, signIn, assertClean } = await on.window();
    await signIn();
    await page.goto("/graphiql");
    await run(page, "query Viewer { viewer { username tenantId } }");
    await answer(page, '"username": "admin"');
    assertClean();
  });

  test("shows a change made while a subscription is open", async () => {
    const api = await signedIn(on.keymark);
    const { page, signIn, assertClean } = await on.window();
    await signIn();
    await page.goto("/graphiql");
    await run(page, subscription(await api.latestChange()));
    await page.getByRole("button", { name: "Stop query" }).waitFor();
    await api.createSystem("Seen in GraphiQL");
    await answer(page, '"name": "Seen in GraphiQL"');
    assertClean();
  });

  test("takes a bearer token as a header, for queries and subscriptions", async () => {
    const api = await signedIn(on.keymark);
    const { page, assertClean } = await on.window();
    await page.goto("/graphiql");
    await run(page, "query Viewer { viewer { username } }");
    await answer(page, '"viewer": null');
    await page.getByRole("button", { name: "Headers" }).click();
    await write(page, "Headers", JSON.stringify({ Authorization: `Bearer ${api.token}` }));
    await run(page, "query Viewer { viewer { username } }");
    await answer(page, '"username": "admin"');
    await run(page, subscription(await api.latestChange()));
    await page.getByRole("button", { name: "Stop query" }).waitFor();
    await api.createSystem("Seen by bearer");
    await answer(page, '"name": "Seen by bearer"');
    assertClean();
  });
});

// By the clipboard: the editor closes brackets that are typed.
async function write(page, editor, text) {
  await page.evaluate((pasted) => navigator.clipboard.writeText(pasted), text);
  await page.getByRole("region", { name: editor }).getByRole("textbox").focus();
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.press("ControlOrMeta+V");
}

async function run(page, document) {
  await write(page, "Operation Editor", document);
  const [, name] = document.split(" ");
  // Its tab takes the operation's name once the editor has read it.
  await page.getByRole("tab", { name, selected: true }).waitFor();
  await page.getByRole("button", { name: "Execute query" }).click();
}

/** Waits for a piece of the answer, where the editor shows blanks as no-break spaces. */
const answer = (page, text) =>
  page
    .getByRole("region", { name: "Result Window" })
    .getByText(new RegExp(text.replaceAll(" ", "\\s")))
    .first()
    .waitFor();
