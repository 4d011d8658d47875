import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { cp, rename, rm } from "node:fs/promises";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

describe("an open page", () => {
  const env = fixture();

  test("shows what an operator does in another window", async () => {
    const watching = await env.openWindow();
    const working = await env.openWindow();
    await watching.signIn();
    await watching.page.getByText("There are no systems yet.").waitFor();
    await working.signIn("/systems/new");

    const { page, button, link } = working;
    await page.getByLabel("System Name").fill("Payroll");
    await button("Submit").click();
    await watching.row("Payroll").filter({ hasText: "Not generated" }).waitFor();

    await link("Manage API Key").click();
    const { apiKey } = await working.generateKey();
    await working.closeWithoutCopying();
    await watching
      .row("Payroll")
      .filter({ hasText: `••••${apiKey.slice(-4)}` })
      .waitFor();

    await link("System Detail").click();
    await button("Delete System").click();
    await button("Confirm").click();
    await watching.row("Payroll").waitFor({ state: "detached" });
    watching.assertClean();
    working.assertClean();
  });

  test("moves a renamed system to the place of its new name", async () => {
    const api = await signInToApi(env.keymark);
    const first = await api.createSystem("Alpha");
    await api.createSystem("Beta");
    const { page, signIn, row } = await env.openWindow();
    await signIn();
    await row("Alpha").waitFor();
    await api.renameSystem(first, "gamma");
    await row("gamma").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), ["Beta", "gamma"]);
  });

  test("shows that its system was deleted, and by whom", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Short-lived");
    const { page, signIn } = await env.openWindow();
    await signIn(`/systems/${id}`);
    await page.getByRole("heading", { name: "System Detail: Short-lived" }).waitFor();
    await api.deleteSystem(id);
    await page.getByRole("heading", { name: "Short-lived was deleted." }).waitFor();
    await page.getByText("It was deleted by admin.").waitFor();
  });

  test("shows what the operator's permissions allow, also when they change", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Watched");
    await env.keymark.manageOperator("add", "watcher", "--permissions=view", "--password-stdin");
    const { page, signIn, row, assertClean, link } = await env.openWindow();
    await signIn("/", "watcher");
    const create = link("Create API key");
    await row("Watched").waitFor();
    assert.equal(await create.count(), 0);

    await env.keymark.manageOperator("set-permissions", "watcher", "view,create");
    await create.waitFor();
    await env.keymark.manageOperator("set-permissions", "watcher", "create");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await row("Watched").count(), 0);
    await env.keymark.manageOperator("set-permissions", "watcher", "view");
    await row("Watched").waitFor();
    assertClean();
  });

  test("requires signing in again as soon as the session ends elsewhere", async () => {
    const { page, signIn, assertClean } = await env.openWindow();
    await signIn("/systems?search=a");
    const other = await page.context().newPage();
    await other.goto("/");
    await other.getByRole("button", { name: "Signed in as" }).click();
    await other.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("Your session has ended. Sign in again to continue.").waitFor();
    await signIn(page.url());
    assert.equal(new URL(page.url()).pathname, "/systems");
    assertClean();
  });

  test("shows that the connection is lost, keeps its content, and catches up", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Shown before");
    const { page, signIn, row, link } = await env.openWindow();
    await signIn();
    await row("Shown before").waitFor();
    const sockets = [];
    page.on("websocket", (socket) => sockets.push(socket));
    await env.keymark.restart(async () => {
      await page.getByText("Connection lost. Reconnecting…").waitFor();
      // Asks by HTTP whether the server is back: Chromium delays a WebSocket after others that failed.
      for (let failures = 0; failures < 2; failures += 1) {
        await page.waitForEvent("requestfailed", (request) => request.url().endsWith("/healthz"));
      }
      await link("Create API key").click();
      await link("API Key Management").click();
      await row("Shown before").waitFor();
    });
    await api.createSystem("Made meanwhile");
    await page.getByText("Live", { exact: true }).waitFor();
    await row("Made meanwhile").waitFor();
    assert.equal(sockets.length, 1);
  });

  test("reconnects after an hour's sleep without waiting for a timer, and catches up", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Gone by morning");
    const { page, signIn, row } = await env.openWindow();
    const connections = [];
    const opened = new EventEmitter();
    // A silently lost connection transfers nothing, and neither end closes it.
    await page.routeWebSocket("**/graphql", (socket) => {
      const server = socket.connectToServer();
      const connection = { lost: false };
      connections.push(connection);
      opened.emit("connection");
      socket.onMessage((message) => connection.lost || server.send(message));
      server.onMessage((message) => connection.lost || socket.send(message));
    });
    await page.clock.install();
    await signIn();
    await row("Gone by morning").waitFor();
    for (const connection of connections) connection.lost = true;
    await api.deleteSystem(id);
    await api.createSystem("New in the morning");
    assert.equal(await row("Gone by morning").count(), 1);

    // The page's clock jumps by an hour and stops there: each timer that is due fires once, and none after that.
    const reconnected = once(opened, "connection", { signal: AbortSignal.timeout(10_000) });
    await page.clock.pauseAt(Date.now() + 3_600_000);
    await reconnected;
    await page.clock.resume();
    await row("New in the morning").waitFor();
    await row("Gone by morning").waitFor({ state: "detached" });
  });

  test("shows a change without a request, and highlights it briefly", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Noticed");
    const { page, signIn, row, recordStyle } = await env.openWindow();
    await signIn("/systems?search=noticed");
    await row("Noticed").waitFor();
    const recordedStyle = await recordStyle("tr.changed", "animationName");
    const requests = [];
    page.on("request", (request) => requests.push(request.url()));
    const apiKey = await api.generateKey(id);
    await row("Noticed")
      .filter({ hasText: apiKey.slice(-4) })
      .waitFor();
    assert.deepEqual(requests, []);
    assert.equal(await recordedStyle(), "flash");
    await page.locator("tr.changed").waitFor({ state: "detached" });
  });

  test("has one WebSocket, with the page's subscriptions beside the viewer's", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Subscribed");
    const { page, signIn, link } = await env.openWindow();
    const sockets = [];
    page.on("websocket", (socket) => {
      const open = new Map();
      sockets.push({ socket, open });
      socket.on("framesent", ({ payload }) => {
        const { type, id: number, payload: request } = JSON.parse(payload);
        if (type === "subscribe") open.set(number, /subscription (\w+)/.exec(request.query)[1]);
        if (type === "complete") open.delete(number);
      });
    });
    /** Waits until exactly these subscriptions are open. */
    const subscriptions = async (...names) => {
      const { open, socket } = sockets.at(-1);
      while ([...open.values()].sort().join() !== names.join()) {
        await socket.waitForEvent("framesent");
      }
    };
    await signIn("/systems?search=subscribed");
    await link("View Subscribed").waitFor();
    await subscriptions("SystemChanged", "ViewerChanged");
    await link("View Subscribed").click();
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    await subscriptions("AuditLogAppended", "UsageChanged", "ViewerChanged");
    await link("Audit Log").click();
    await page.getByRole("rowheader", { name: "Created the system" }).first().waitFor();
    await subscriptions("AuditLogAppended", "ViewerChanged");
    await link("API Keys").click();
    await link("Create API key").click();
    await page.getByLabel("System Name").waitFor();
    await subscriptions("ViewerChanged");
    assert.equal(sockets.length <= 2, true, "one before signing in, one after");
  });

  test("loads everything again when the store was restored from a backup", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Kept");
    const { signIn, row } = await env.openWindow();
    await signIn();
    await row("Kept").waitFor();
    const { dataDir } = env.keymark;
    const backup = `${dataDir}.backup`;
    await env.keymark.restart(() => cp(dataDir, backup, { recursive: true }));
    await api.createSystem("Lost");
    await row("Lost").waitFor();

    await env.keymark.restart(async () => {
      await rm(dataDir, { recursive: true });
      await rename(backup, dataDir);
    });
    await row("Lost").waitFor({ state: "detached" });
    await api.createSystem("Found");
    await row("Found").waitFor();
    await row("Kept").waitFor();
  });
});
