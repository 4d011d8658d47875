import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { contentsOf, heapOf } from "./support/browser.js";
import { fixture } from "./support/fixture.js";

describe("a generated key", () => {
  const env = fixture();

  /** Opens a window and generates a key for a new system of that name. */
  async function generateKeyFor(name) {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem(name);
    const window = await env.openWindow();
    const { signIn, link } = window;
    await signIn("/systems");
    await window.row(name).getByRole("link").click();
    await link("Manage API Key").click();
    const { dialog, apiKey } = await window.generateKey();
    assert.match(apiKey, /^km_[0-9A-Za-z]{49}$/);
    return { ...window, id, dialog, apiKey };
  }

  test("is not in the page, its storage, its history or its heap after Close", async () => {
    const { page, dialog, apiKey, assertClean, button } = await generateKeyFor("Forgotten");
    const logged = [];
    page.on("console", (message) => logged.push(message.text()));
    assert.equal((await heapOf(page)).includes(apiKey), true, "the heap contains the shown key");

    await dialog.getByText("For Forgotten, mark:").waitFor();
    const request = await dialog.getByLabel("Request with this key").inputValue();
    assert.equal(request, `curl https://api.example.com/ \\\n  -H 'X-Api-Key: ${apiKey}'`);
    await dialog.getByRole("button", { name: "Request to clipboard" }).click();
    await dialog.getByText("The request was copied, with the key in it.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), request);
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The key was copied.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("The API key was generated.").waitFor();

    const secret = apiKey.slice(3);
    assert.equal((await contentsOf(page)).includes(secret), false);
    assert.equal((await heapOf(page)).includes(secret), false);
    await page.goBack();
    await page.goForward();
    await button("Revoke API Key").waitFor();
    assert.equal((await contentsOf(page)).includes(secret), false);
    assert.equal(logged.join().includes(secret), false);
    assertClean();
  });

  test("stays shown until Close if it was not copied, and leaving the page asks first", async () => {
    const { page, dialog, id, closeWithoutCopying } = await generateKeyFor("Kept");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.mouse.click(5, 5);
    await dialog.waitFor();

    const prompts = [];
    page.on("dialog", async (prompt) => {
      prompts.push(prompt.type());
      await prompt.dismiss();
    });
    await goBackAndBeRefused(page);
    assert.equal(new URL(page.url()).pathname, `/systems/${id}/key`);
    assert.deepEqual(prompts, ["confirm"]);
    // Not awaited: a reload that is refused never resolves.
    const prompted = page.waitForEvent("dialog");
    page.evaluate(() => location.reload()).catch(() => undefined);
    await prompted;
    await dialog.waitFor();
    assert.deepEqual(prompts, ["confirm", "beforeunload"]);
    await closeWithoutCopying();
    await page.goBack();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    assert.deepEqual(prompts, ["confirm", "beforeunload"]);
  });

  test("is selected if the clipboard is refused, and Escape closes after it was copied by hand", async () => {
    const { page, dialog, apiKey } = await generateKeyFor("By hand");
    await page.evaluate(() => {
      navigator.clipboard.writeText = () => Promise.reject(new DOMException("refused"));
    });
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The browser did not allow copying.").waitFor();
    const selected = await page.evaluate(() => {
      const { value, selectionStart, selectionEnd } = document.activeElement;
      return value.slice(selectionStart, selectionEnd);
    });
    assert.equal(selected, apiKey);
    await page.keyboard.press("Escape");
    await dialog.waitFor();
    await page.keyboard.press("ControlOrMeta+C");
    await dialog.getByText("The key was copied.").waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  });

  test("stays shown when the operator loses the permissions that generated it", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Lost codes");
    await env.keymark.manageOperator(
      "add",
      "loser",
      "--permissions=view,create",
      "--password-stdin",
    );
    const { page, signIn, generateKey, closeWithoutCopying } = await env.openWindow();
    await signIn(`/systems/${id}/key`, "loser");
    await generateKey();
    await env.keymark.manageOperator("set-permissions", "loser", "");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    await closeWithoutCopying();
  });

  test("is removed from a search box that it is pasted into, and not sent", async () => {
    const { page, dialog, apiKey, link, assertClean } = await generateKeyFor("Pasted");
    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The key was copied.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await link("API Key Management").click();
    const requests = [];
    page.on("request", (request) => requests.push(request.url() + request.postData()));
    await page.getByRole("searchbox").focus();
    await page.keyboard.press("ControlOrMeta+V");
    await page.getByText("A whole API key was pasted.").getByText(apiKey.slice(-4)).waitFor();
    await link("Audit Log").click();
    await page.getByRole("combobox", { name: "System" }).focus();
    await page.keyboard.press("ControlOrMeta+V");
    await page.getByText("This is an API key, and was removed.").waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("rowheader").first().waitFor();
    const secret = apiKey.slice(3);
    assert.equal(requests.join().includes(secret), false);
    assert.equal((await contentsOf(page)).includes(secret), false);
    assert.equal((await heapOf(page)).includes(secret), false);
    assertClean();
  });

  test("can be closed once it was copied with its request, and a double click does not close it before", async () => {
    const { dialog } = await generateKeyFor("Requested");
    await dialog.getByRole("button", { name: "Close" }).dblclick();
    await dialog.getByText("The key was not copied").waitFor();
    await dialog.getByRole("button", { name: "Request to clipboard" }).click();
    await dialog.getByText("The key was not copied").waitFor({ state: "detached" });
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
  });
});

/** Goes back, which the page refuses; resolves when the history is restored. */
const goBackAndBeRefused = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const back = () => addEventListener("popstate", resolve, { once: true });
        addEventListener("popstate", back, { once: true });
        history.back();
      }),
  );
