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

export const openBrowser = () =>
  chromium.launch({
    executablePath: EXECUTABLE,
    // Chromium's sandbox refuses root, which containers run as.
    args: process.getuid?.() === 0 ? ["--no-sandbox", ...ARGUMENTS] : ARGUMENTS,
  });

/** A window of a browser profile of its own, which notes whatever a page should not do. */
export async function openWindow(browser, keymark) {
  const context = await browser.newContext({
    baseURL: keymark.console,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const complaints = [];
  const { host } = new URL(keymark.console);
  const noteForeign = (url) => {
    if (new URL(url).host !== host) complaints.push(`asked another host: ${url}`);
  };
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => noteForeign(request.url()));
  page.on("websocket", (socket) => noteForeign(socket.url()));
  return {
    page,
    close: () => context.close(),

    /** Violations of the Content-Security-Policy are among the console's errors. */
    assertClean: () => assert.deepEqual(complaints, []),

    async signIn(address = "/", username = operator.username) {
      await page.goto(address);
      await page.getByLabel("Username").fill(username);
      await page.getByLabel("Password").fill(operator.password);
      await page.getByRole("button", { name: "Sign in", exact: true }).click();
      await page.getByText("Live", { exact: true }).waitFor();
    },

    /** What the menu of the signed-in operator offers. */
    async choose(name) {
      await page.getByRole("button", { name: "Signed in as" }).click();
      await page.getByRole("button", { name, exact: true }).click();
    },

    /**
     * Watches for an element that may be there only briefly, so from before what brings it about. The function that
     * this settles with waits for it, and tells what a property of its style was.
     */
    async watch(selector, property) {
      const watching = await page.evaluateHandle(
        ([wanted, name]) => ({
          seen: new Promise((resolve) => {
            const observer = new MutationObserver(() => {
              const element = document.querySelector(wanted);
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
      return () => watching.evaluate(({ seen }) => seen);
    },

    row: (name) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name }) }),
  };
}
