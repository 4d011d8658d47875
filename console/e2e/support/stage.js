import { after, afterEach, before } from "node:test";
import { openBrowser, openWindow } from "./browser.js";
import { startKeymark } from "./keymark.js";

/** A server and a browser for the tests of a file; windows close with the test that opened them. */
export function stage(start = startKeymark) {
  const set = {};
  const windows = [];
  before(async () => {
    set.keymark = await start();
    set.browser = await openBrowser();
  });
  after(async () => {
    await set.browser?.close();
    await set.keymark?.stop();
  });
  afterEach(async () => {
    await Promise.all(windows.splice(0).map((window) => window.close()));
  });
  return {
    get keymark() {
      return set.keymark;
    },
    /** A window at the server, or at another instance of it. */
    async window(at = set.keymark) {
      const window = await openWindow(set.browser, at);
      windows.push(window);
      return window;
    },
  };
}
