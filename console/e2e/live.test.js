import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

/** At most so many times as long as the page takes to load anew: an answer that is waited for by a timer takes more. */
const RELOADS = 3;

describe("a list that is open", () => {
  const on = stage();

  test("shows what an operator does in another window", async () => {
    const watching = await on.window();
    const working = await on.window();
    await watching.signIn();
    await watching.page.getByText("There are no systems yet.").waitFor();
    await working.signIn("/systems/new");

    const { page } = working;
    await page.getByLabel("System Name").fill("Payroll");
    await page.getByRole("button", { name: "Submit" }).click();
    await watching.row("Payroll").filter({ hasText: "Not generated" }).waitFor();

    await page.getByRole("link", { name: "Manage API Key" }).click();
    await page.getByRole("button", { name: "Generate API Key" }).click();
    const key = await page.getByLabel("API Key", { exact: true }).inputValue();
    await page.getByRole("button", { name: "Close" }).click();
    await watching
      .row("Payroll")
      .filter({ hasText: `••••${key.slice(-4)}` })
      .waitFor();

    await page.getByRole("link", { name: "System Detail" }).click();
    await page.getByRole("button", { name: "Delete System" }).click();
    await page.getByRole("button", { name: "Confirm" }).click();
    await watching.row("Payroll").waitFor({ state: "detached" });
    watching.assertClean();
    working.assertClean();
  });

  test("moves a renamed system to its new place", async () => {
    const api = await signedIn(on.keymark);
    const first = await api.createSystem("Alpha");
    await api.createSystem("Beta");
    const { page, signIn, row } = await on.window();
    await signIn();
    await row("Alpha").waitFor();
    await api.renameSystem(first, "gamma");
    await row("gamma").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), ["Beta", "gamma"]);
  });

  test("tells whoever has a deleted system open", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Short-lived");
    const { page, signIn } = await on.window();
    await signIn(`/systems/${id}`);
    await page.getByText("Short-lived").waitFor();
    await api.deleteSystem(id);
    await page.getByRole("heading", { name: "Short-lived was deleted." }).waitFor();
  });

  test("shows what the operator's permission codes allow, and follows a change of them", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Watched");
    await on.keymark.manageOperator("add", "watcher", "--permissions=view", "--password-stdin");
    const { page, signIn, row, assertClean } = await on.window();
    await signIn("/", "watcher");
    const create = page.getByRole("link", { name: "Create API key" });
    await row("Watched").waitFor();
    assert.equal(await create.count(), 0);

    await on.keymark.manageOperator("set-permissions", "watcher", "view,create");
    await create.waitFor();
    await on.keymark.manageOperator("set-permissions", "watcher", "create");
    await page.getByText("You need the permission code api_key_management:view.").waitFor();
    assert.equal(await row("Watched").count(), 0);
    await on.keymark.manageOperator("set-permissions", "watcher", "view");
    await row("Watched").waitFor();
    assertClean();
  });

  test("asks to sign in again as soon as the session is ended elsewhere", async () => {
    const { page, signIn, assertClean } = await on.window();
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

  test("says that the connection is lost, keeps what it shows, and catches up", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Shown before");
    const { page, signIn, row } = await on.window();
    await signIn();
    await row("Shown before").waitFor();
    await on.keymark.restart(async () => {
      await page.getByText("Connection lost. Reconnecting…").waitFor();
      await page.getByRole("link", { name: "Create API key" }).click();
      await page.getByRole("link", { name: "API Key Management" }).click();
      await row("Shown before").waitFor();
    });
    await api.createSystem("Made meanwhile");
    await page.getByText("Live", { exact: true }).waitFor();
    await row("Made meanwhile").waitFor();
  });

  test("is right again about as soon as a reload would make it, after an hour's sleep", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Gone by morning");
    const { page, signIn, row } = await on.window();
    const links = [];
    // A link that died in silence: nothing comes through, and nobody closes it.
    await page.routeWebSocket("**/graphql", (socket) => {
      const server = socket.connectToServer();
      const link = { dead: false };
      links.push(link);
      socket.onMessage((message) => link.dead || server.send(message));
      server.onMessage((message) => link.dead || socket.send(message));
    });
    await page.clock.install();
    await signIn();
    await row("Gone by morning").waitFor();
    for (const link of links) link.dead = true;
    await api.deleteSystem(id);
    await api.createSystem("New in the morning");
    assert.equal(await row("Gone by morning").count(), 1);

    await page.clock.fastForward("01:00:00");
    const woken = performance.now();
    await row("New in the morning").waitFor();
    await row("Gone by morning").waitFor({ state: "detached" });
    const took = performance.now() - woken;
    const started = performance.now();
    await page.reload();
    await row("New in the morning").waitFor();
    const reload = performance.now() - started;
    assert.equal(took < RELOADS * reload, true, `${took} ms, and ${reload} ms to reload`);
  });

  test("shows a change by what is sent to it alone, briefly marked", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Noticed");
    const { page, signIn, row, watch } = await on.window();
    await signIn("/systems?search=noticed");
    await row("Noticed").waitFor();
    const marked = await watch("tr.changed", "animationName");
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    const key = await api.generateKey(id);
    await row("Noticed")
      .filter({ hasText: key.slice(-4) })
      .waitFor();
    assert.deepEqual(asked, []);
    assert.equal(await marked(), "flash");
    await page.locator("tr.changed").waitFor({ state: "detached" });
  });

  test("has one WebSocket, and one subscription beside that of the operator", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Subscribed");
    const { page, signIn } = await on.window();
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
    /** Waits until exactly these are open. */
    const follows = async (...names) => {
      const { open, socket } = sockets.at(-1);
      while ([...open.values()].sort().join() !== names.join()) {
        await socket.waitForEvent("framesent");
      }
    };
    await signIn("/systems?search=subscribed");
    await page.getByRole("link", { name: "View Subscribed" }).waitFor();
    await follows("SystemChanged", "ViewerChanged");
    await page.getByRole("link", { name: "View Subscribed" }).click();
    await page.getByRole("rowheader", { name: "Created the system" }).waitFor();
    await follows("AuditLogAppended", "ViewerChanged");
    await page.getByRole("link", { name: "Audit Log" }).click();
    await page.getByRole("rowheader", { name: "Created the system" }).first().waitFor();
    await follows("AuditLogAppended", "ViewerChanged");
    await page.getByRole("link", { name: "API Keys" }).click();
    await page.getByRole("link", { name: "Create API key" }).click();
    await page.getByLabel("System Name").waitFor();
    await follows("ViewerChanged");
    assert.equal(sockets.length <= 2, true, "one for signing in, one since");
  });
});
