import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

describe("a generated key", () => {
  const on = stage();

  /** A window with the dialog open, and the key in it. */
  async function generated(name) {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem(name);
    const window = await on.window();
    const { page, signIn } = window;
    await signIn("/systems");
    await window.row(name).getByRole("link").click();
    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const dialog = page.getByRole("dialog", { name: "API Key Generated" });
    const apiKey = await dialog.getByLabel("API Key", { exact: true }).inputValue();
    assert.match(apiKey, /^km_[0-9A-Za-z]{49}$/);
    return { ...window, id, dialog, apiKey };
  }

  test("is nowhere in the page, its storage, its history or its memory after Close", async () => {
    const { page, dialog, apiKey, assertClean } = await generated("Forgotten");
    const logged = [];
    page.on("console", (message) => logged.push(message.text()));
    assert.equal((await heapOf(page)).includes(apiKey), true, "the search finds what is there");

    await dialog.getByRole("button", { name: "Copy" }).click();
    await dialog.getByText("The key was copied.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("The API key was generated.").waitFor();

    const secret = apiKey.slice(3);
    assert.equal((await heldBy(page)).includes(secret), false);
    assert.equal((await heapOf(page)).includes(secret), false);
    await page.goBack();
    await page.goForward();
    await page.getByRole("button", { name: "Revoke API Key" }).waitFor();
    assert.equal((await heldBy(page)).includes(secret), false);
    assert.equal(logged.join().includes(secret), false);
    assertClean();
  });

  test("stays until Close while it was not copied, and asks before the page is left", async () => {
    const { page, dialog, id } = await generated("Kept");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.mouse.click(5, 5);
    await dialog.waitFor();

    const asked = [];
    page.on("dialog", async (question) => {
      asked.push(question.type());
      await question.dismiss();
    });
    await thereAndBack(page);
    assert.equal(new URL(page.url()).pathname, `/systems/${id}/key`);
    assert.deepEqual(asked, ["confirm"]);
    // Refused, the reload never comes to its end.
    const left = page.waitForEvent("dialog");
    page.evaluate(() => location.reload()).catch(() => undefined);
    await left;
    await dialog.waitFor();
    assert.deepEqual(asked, ["confirm", "beforeunload"]);
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.goBack();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    assert.deepEqual(asked, ["confirm", "beforeunload"]);
  });

  test("is selected where the clipboard is refused, and Escape closes once it was copied by hand", async () => {
    const { page, dialog, apiKey } = await generated("By hand");
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

  test("outlives the loss of the permission codes that brought it", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Lost codes");
    await on.keymark.manageOperator(
      "add",
      "loser",
      "--permissions=view,create",
      "--password-stdin",
    );
    const { page, signIn } = await on.window();
    await signIn(`/systems/${id}/key`, "loser");
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const dialog = page.getByRole("dialog", { name: "API Key Generated" });
    await dialog.waitFor();
    await on.keymark.manageOperator("set-permissions", "loser", "");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
  });
});

/** Goes back, where that is refused: ends once the history stands again where it stood. */
const thereAndBack = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const back = () => addEventListener("popstate", resolve, { once: true });
        addEventListener("popstate", back, { once: true });
        history.back();
      }),
  );

/** Markup, fields, storage, caches, history and cookies of the page. */
const heldBy = (page) =>
  page.evaluate(async () => {
    const fields = Array.from(document.querySelectorAll("input, textarea"), ({ value }) => value);
    const caches_ = await caches.keys();
    const databases = await indexedDB.databases();
    return JSON.stringify([
      document.documentElement.outerHTML,
      fields,
      { ...localStorage },
      { ...sessionStorage },
      caches_,
      databases,
      history.state,
      location.href,
      document.cookie,
    ]);
  });

/** Every string that the page's scripts can still reach. */
async function heapOf(page) {
  const client = await page.context().newCDPSession(page);
  const chunks = [];
  client.on("HeapProfiler.addHeapSnapshotChunk", ({ chunk }) => chunks.push(chunk));
  await client.send("HeapProfiler.collectGarbage");
  await client.send("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
  await client.detach();
  return chunks.join("");
}
