import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { openBrowser } from "./support/browser.js";
import { startKeymark } from "./support/keymark.js";

const CONSOLE = ["/", "/systems", "/sign-in", "/graphiql", "/nowhere"];
const API = ["/graphql?query={__typename}", "/schema.graphql", "/audit/export?format=csv"];
const OPERATIONS = ["/healthz", "/readyz"];
// Browsers download /metrics.
const VERIFICATION = ["/v1/verify", "/v1/forward-auth", "/nowhere"];

describe("A page of another origin", () => {
  let keymark;
  let browser;
  let site;

  before(async () => {
    keymark = await startKeymark();
    browser = await openBrowser();
    const frames = [
      ...[...CONSOLE, ...API, ...OPERATIONS].map((path) => new URL(path, keymark.console).href),
      ...VERIFICATION.map((path) => new URL(path, keymark.verification).href),
      "/own",
    ];
    const page = frames.map((address) => `<iframe src="${address}"></iframe>`).join("");
    site = createServer((request, response) => {
      response.setHeader("content-type", "text/html");
      response.end(request.url === "/own" ? "its own frame" : page);
    }).listen(0, "127.0.0.1");
    await once(site, "listening");
  });

  after(async () => {
    site?.close();
    await browser?.close();
    await keymark?.stop();
  });

  test("can frame nothing of Keymark", async () => {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    const frames = page.mainFrame().childFrames();
    const expected = CONSOLE.length + API.length + OPERATIONS.length + VERIFICATION.length + 1;
    assert.equal(frames.length, expected);
    const shown = frames
      .map((frame) => frame.url())
      .filter((url) => !url.startsWith("chrome-error:"));
    assert.deepEqual(shown, [`http://127.0.0.1:${site.address().port}/own`]);
    await page.close();
  });
});
