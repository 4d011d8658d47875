import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { operator } from "./keymark.js";

const EXECUTABLE = process.env.KEYMARK_CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const openBrowser = (...more) =>
  chromium.launch({
    executablePath: EXECUTABLE,
    // Containers run as root, where Chromium's sandbox does not start.
    args: [...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), ...ARGUMENTS, ...more],
  });

/** Opens a window in a new browser profile. It records console errors and requests to other hosts. */
export async function openWindow(browser, keymark, options = {}) {
  const context = await browser.newContext({
    baseURL: keymark.console,
    permissions: ["clipboard-read", "clipboard-write"],
    ...options,
  });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const problems = [];
  const { host } = new URL(keymark.console);
  const checkHost = (url) => {
    if (new URL(url).host !== host) problems.push(`request to another host: ${url}`);
  };
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => checkHost(request.url()));
  page.on("websocket", (socket) => checkHost(socket.url()));
  return {
    page,
    close: () => context.close(),

    /** Asserts that nothing was recorded. Violations of the Content-Security-Policy are console errors too. */
    assertClean: () => assert.deepEqual(problems, []),

    async assertNoHorizontalScroll(what) {
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.equal(overflow, 0, `${what} scrolls horizontally`);
    },

    button: (name) => page.getByRole("button", { name, exact: true }),
    link: (name) => page.getByRole("link", { name, exact: true }),
    row: (name) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name }) }),

    async signIn(path = "/", username = operator.username) {
      await page.goto(path);
      await page.getByLabel("Username").fill(username);
      await page.getByLabel("Password").fill(operator.password);
      await page.getByRole("button", { name: "Sign in", exact: true }).click();
      await page.getByText("Live", { exact: true }).waitFor();
    },

    /** Selects an item of the operator's menu. */
    async chooseFromMenu(name) {
      await page.getByRole("button", { name: "Signed in as" }).click();
      await page.getByRole("button", { name, exact: true }).click();
    },

    /** On the page Manage API Key: generates a key and returns it with its dialog. */
    async generateKey() {
      await page.getByRole("button", { name: "Generate API Key" }).click();
      const dialog = page.getByRole("dialog", { name: "API Key Generated" });
      const apiKey = await dialog.getByLabel("API Key", { exact: true }).inputValue();
      return { dialog, apiKey };
    },

    /** In the dialog with a new key: closes it, and confirms that the key was not copied. */
    async closeWithoutCopying() {
      const dialog = page.getByRole("dialog", { name: "API Key Generated" });
      await dialog.getByRole("button", { name: "Close" }).click();
      await dialog.getByText("The key was not copied").waitFor();
      await dialog.getByRole("button", { name: "Close" }).click();
      await dialog.waitFor({ state: "detached" });
    },

    /**
     * Starts to look for an element that is shown only briefly, so call it before the action that shows the element.
     * Returns a function that waits for the element and returns the value that the style property had then.
     */
    async recordStyle(selector, property) {
      const recording = await page.evaluateHandle(
        ([expected, name]) => ({
          style: new Promise((resolve) => {
            const observer = new MutationObserver(() => {
              const element = document.querySelector(expected);
              if (element === null) return;
              observer.disconnect();
              resolve(getComputedStyle(element)[name]);
            });
            const attributes = { attributes: true, attributeFilter: ["class"] };
            observer.observe(document.body, { subtree: true, childList: true, ...attributes });
          }),
        }),
        [selector, property],
      );
      return () => recording.evaluate(({ style }) => style);
    },
  };
}

/** Returns everything that a page holds: markup, fields, storage, databases, history and cookies. */
export const contentsOf = (page) =>
  page.evaluate(async () => {
    const fields = Array.from(document.querySelectorAll("input, textarea"), ({ value }) => value);
    return JSON.stringify([
      document.documentElement.outerHTML,
      fields,
      { ...localStorage },
      { ...sessionStorage },
      await caches.keys(),
      await indexedDB.databases(),
      history.state,
      location.href,
      document.cookie,
    ]);
  });

/** Returns a heap snapshot, which contains every string that is still reachable. */
export async function heapOf(page) {
  const client = await page.context().newCDPSession(page);
  const chunks = [];
  client.on("HeapProfiler.addHeapSnapshotChunk", ({ chunk }) => chunks.push(chunk));
  await client.send("HeapProfiler.collectGarbage");
  await client.send("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
  await client.detach();
  return chunks.join("");
}
