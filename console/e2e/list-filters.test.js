import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

describe("the list of systems", () => {
  const env = fixture();

  test("is filtered by state, live, and finds a key by its mark", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Kept");
    const other = await api.createSystem("Other one");
    const apiKey = await api.generateKey(id);
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/systems");
    await page.getByLabel("Key state").selectOption("Not Generated");
    await row("Kept").waitFor({ state: "detached" });
    await row("Other one").waitFor();
    await page.getByText("1 system matches").waitFor();
    await api.generateKey(other);
    await row("Other one").waitFor({ state: "detached" });
    await page.getByText("0 systems match").waitFor();
    await page.getByLabel("Key state").selectOption("Any state");

    const sent = [];
    page.on("request", (request) => sent.push(request.url(), request.postData() ?? ""));
    const mark = apiKey.slice(-4);
    await page.getByRole("searchbox").fill(mark);
    await page.getByText(`Key with the mark ••••••••••••${mark}: Kept`).waitFor();
    await page.getByRole("searchbox").fill("");
    await page.evaluate((text) => navigator.clipboard.writeText(text), apiKey);
    await page.getByRole("searchbox").focus();
    await page.keyboard.press("ControlOrMeta+V");
    await page.getByText("A whole API key was pasted.").waitFor();
    await page.getByRole("link", { name: "Kept", exact: true }).waitFor();

    await page.goto("/audit");
    await page.getByLabel("Key Mark").focus();
    await page.keyboard.press("ControlOrMeta+V");
    await page.getByRole("rowheader", { name: `Generated the key ••••••••••••${mark}` }).waitFor();
    await page.getByRole("rowheader", { name: "Signed in" }).first().waitFor({ state: "detached" });
    assert.equal(await page.getByRole("rowheader").count(), 1);
    assert.equal(new URL(page.url()).search, `?keyMark=${mark}`);
    assert.equal(sent.join().includes(apiKey), false);
    assertClean();
  });
});
