import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openBrowser } from "./support/browser.js";
import { operator, startKeymark } from "./support/keymark.js";

const HOST = "rebound.example";

describe("A page whose name resolves to this machine", () => {
  let keymark;
  let browser;

  before(async () => {
    keymark = await startKeymark();
    browser = await openBrowser(`--host-resolver-rules=MAP ${HOST} 127.0.0.1`);
  });

  after(async () => {
    await browser?.close();
    await keymark?.stop();
  });

  /** Opens an address of Keymark under this host, as if the page had been loaded before its name was rebound. */
  async function openPage(address, host) {
    const url = new URL(address);
    url.hostname = host;
    // The page is the attacker's, so it has none of Keymark's policies.
    const context = await browser.newContext({ bypassCSP: true });
    const page = await context.newPage();
    const response = await page.goto(url.href);
    return {
      status: response.status(),
      close: () => context.close(),
      /** Sends a request from the page to its own origin, and returns the status and the text of the response. */
      send: (path, body) =>
        page.evaluate(
          async ([target, content]) => {
            const headers = { "content-type": "application/json" };
            const request = content === undefined ? {} : { method: "POST", body: content, headers };
            const answer = await fetch(target, request);
            return { status: answer.status, text: await answer.text() };
          },
          [path, body],
        ),
    };
  }

  const signIn = JSON.stringify({
    query:
      "mutation ($username: String!, $password: String!) { signIn(username: $username, password: $password) { token } }",
    variables: operator,
  });

  test("can neither sign in nor read the console", async () => {
    const page = await openPage(keymark.console, HOST);
    assert.equal(page.status, 421);
    for (const [path, body] of [
      ["/graphql", signIn],
      ["/graphql?query={__typename}"],
      ["/schema.graphql"],
    ]) {
      const { status, text } = await page.send(path, body);
      assert.equal(status, 421, text);
      assert.ok(!text.includes("eyJ"));
    }
    await page.close();
  });

  test("can neither verify a key nor read the metrics", async () => {
    const page = await openPage(new URL("/metrics", keymark.verification).href, HOST);
    assert.equal(page.status, 421);
    const key = JSON.stringify({ apiKey: "km_guess" });
    for (const [path, body] of [["/v1/verify", key], ["/v1/forward-auth"], ["/metrics"]]) {
      const { status, text } = await page.send(path, body);
      assert.equal(status, 421, text);
      assert.ok(!text.includes("MALFORMED") && !text.includes("keymark_"));
    }
    await page.close();
  });

  test("could do both under the name localhost", async () => {
    const page = await openPage(keymark.console, "localhost");
    assert.equal(page.status, 200);
    const { status, text } = await page.send("/graphql", signIn);
    assert.equal(status, 200);
    assert.ok(text.includes("eyJ"), text);
    await page.close();
  });
});
