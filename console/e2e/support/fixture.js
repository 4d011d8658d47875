import { after, afterEach, before } from "node:test";
import { openBrowser, openWindow } from "./browser.js";
import { startKeymark } from "./keymark.js";

/** Starts a server and a browser for the tests of a file. Each test's windows are closed at its end. */
export function fixture(start = startKeymark, windowOptions = {}) {
  const running = {};
  const windows = [];
  before(async () => {
    running.keymark = await start();
    running.browser = await openBrowser();
  });
  after(async () => {
    await running.browser?.close();
    await running.keymark?.stop();
  });
  afterEach(async () => {
    await Promise.all(windows.splice(0).map((window) => window.close()));
  });
  return {
    get keymark() {
      return running.keymark;
    },
    /** Opens a window on the server, or on another instance of the cluster. */
    async openWindow(instance = running.keymark) {
      const window = await openWindow(running.browser, instance, windowOptions);
      windows.push(window);
      return window;
    },
  };
}
