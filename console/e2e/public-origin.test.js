import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { after, before, describe, test } from "node:test";
import { openBrowser } from "./support/browser.js";
import { operator, startKeymark } from "./support/keymark.js";

describe("A console behind a proxy that changes its origin, without --public-origin", () => {
  let keymark;
  let proxy;
  let browser;

  before(async () => {
    keymark = await startKeymark();
    browser = await openBrowser();
    const { hostname, port, host } = new URL(keymark.console);
    proxy = createServer((incoming, response) => {
      const { method, url: path } = incoming;
      const headers = { ...incoming.headers, host };
      const outgoing = request({ hostname, port, method, path, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      incoming.pipe(outgoing);
    }).listen(0, "127.0.0.1");
    await once(proxy, "listening");
  });

  after(async () => {
    await browser?.close();
    proxy?.close();
    await keymark?.stop();
  });

  test("shows the origin that was received, the expected one and the setting", async () => {
    const received = `http://127.0.0.1:${proxy.address().port}`;
    const page = await browser.newPage();
    await page.goto(received);
    await page.getByLabel("Username").fill(operator.username);
    await page.getByLabel("Password").fill(operator.password);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    const text = await page.getByRole("alert").textContent();
    const { origin: expected } = new URL(keymark.console);
    for (const part of [
      `from ${received},`,
      `own is ${expected}`,
      `--public-origin to ${received}`,
    ]) {
      assert.ok(text.includes(part), text);
    }
    await page.close();
  });
});
