import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fixture } from "./support/fixture.js";
import { startOverTls } from "./support/keymark.js";

describe("a console over TLS", () => {
  const env = fixture(startOverTls, { ignoreHTTPSErrors: true });

  test("is live, and keeps its session in a cookie of its host alone", async () => {
    assert.match(env.keymark.console, /^https:/);
    const watching = await env.openWindow();
    const working = await env.openWindow();
    await watching.signIn();
    await working.signIn("/systems/new");
    await working.page.getByLabel("System Name").fill("Payroll");
    await working.button("Submit").click();
    await watching.row("Payroll").waitFor();
    const cookies = await watching.page.context().cookies();
    const session = cookies.find(({ name }) => name === "__Host-keymark-session");
    assert.ok(session?.secure && session.httpOnly && session.path === "/", JSON.stringify(cookies));
    await watching.page.reload();
    await watching.row("Payroll").waitFor();
    watching.assertClean();
    working.assertClean();
  });
});
