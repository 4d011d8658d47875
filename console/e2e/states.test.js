import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

const HOSTILE = "<img src=x onerror=alert(1)>";

describe("the console", () => {
  const env = fixture();

  test("shows names with markup, 64 wide letters or right-to-left text as plain names", async () => {
    const api = await signInToApi(env.keymark);
    const wide = "W".repeat(64);
    for (const name of [HOSTILE, wide, "متجر الهدايا"]) await api.createSystem(name);
    const window = await env.openWindow();
    const { page, signIn, row, assertClean, button, link } = window;
    page.on("dialog", () => assert.fail("a name ran as a script"));
    await page.setViewportSize({ width: 360, height: 740 });
    await signIn();
    for (const name of [HOSTILE, wide, "متجر الهدايا"]) {
      await row(name).getByRole("link").click();
      await page.getByRole("definition").filter({ hasText: name }).waitFor();
      await button("Delete System").click();
      await page.getByRole("dialog").getByText(name).waitFor();
      await window.assertNoHorizontalScroll("the page");
      await button("Cancel").click();
      await link("API Key Management").click();
    }
    await page.goto("/audit");
    await page.getByRole("link", { name: HOSTILE }).waitFor();
    assert.equal(await page.locator("img").count(), 0);
    const direction = await page
      .getByText("متجر الهدايا")
      .evaluate((name) => getComputedStyle(name).direction);
    assert.equal(direction, "rtl");
    assertClean();
  });

  test("supports deep links, back and forward, and reports pages that do not exist", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Linked to");
    const { page, signIn, row, link } = await env.openWindow();
    const heading = (name) => page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
    await signIn(`/systems/${id}/edit?from=mail`);
    await heading("Edit System: Linked to");
    assert.equal(new URL(page.url()).pathname, `/systems/${id}/edit`);
    await page.goto("/systems?search=linked");
    await row("Linked to").getByRole("link").click();
    await heading("System Detail: Linked to");
    await link("Manage API Key").click();
    await heading("Manage API Key: Linked to");
    await page.getByRole("listitem").getByText("Manage API Key: Linked to").waitFor();
    assert.equal(await page.title(), "Linked to – Manage API Key – Keymark");
    // What leads somewhere is underlined, unlike the page itself.
    for (const crumb of await page
      .getByRole("navigation", { name: "Breadcrumb" })
      .locator("li")
      .all()) {
      const links = crumb.getByRole("link");
      if ((await links.count()) === 0) continue;
      const line = await links.evaluate((link) => getComputedStyle(link).textDecorationLine);
      assert.equal(line, "underline");
    }
    await page.goBack();
    await heading("System Detail: Linked to");
    await page.goBack();
    await row("Linked to").waitFor();
    assert.equal(await page.getByRole("searchbox").inputValue(), "linked");
    await page.goForward();
    await heading("System Detail: Linked to");
    await page.reload();
    await heading("System Detail: Linked to");
    assert.equal(await page.title(), "Linked to – System Detail – Keymark");

    for (const path of ["unknown", "sys_00000000000000000000000000", "unknown/edit", "x/key"]) {
      await page.goto(`/systems/${path}`);
      await heading("Page not found");
    }
    await page.goto(`/systems/${id}/what`);
    await heading("Page not found");
  });

  test("does not show a system of another tenant", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Of the default tenant");
    await env.keymark.manageOperator(
      ...["add", "stranger", "--tenant=elsewhere", "--permissions=view", "--password-stdin"],
    );
    const { page, signIn } = await env.openWindow();
    await signIn("/systems", "stranger");
    await page.getByText("There are no systems yet.").waitFor();
    await page.goto(`/systems/${id}`);
    await page.getByRole("heading", { name: "Page not found" }).waitFor();
    assert.equal(await page.getByText("Of the default tenant").count(), 0);
  });

  test("shows why loading failed, and retries on request", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Behind a failure");
    const { page, signIn, row, button, link } = await env.openWindow();
    await signIn("/systems/new");
    await page.route("**/graphql", (route) => route.abort());
    await link("API Key Management").click();
    await page.getByText("Keymark cannot be reached.").waitFor();
    await page.unroute("**/graphql");
    await button("Try again").click();
    await row("Behind a failure").waitFor();
  });

  test("shows that it is offline, and reconnects by itself", async () => {
    const api = await signInToApi(env.keymark);
    const { page, signIn, row } = await env.openWindow();
    await signIn();
    await page.context().setOffline(true);
    await page.getByText("You are offline.").waitFor();
    await api.createSystem("Made while offline");
    await page.context().setOffline(false);
    await row("Made while offline").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
  });

  test("transfers less than 80 kB, and nothing of GraphiQL", async () => {
    const { page } = await env.openWindow();
    const requests = [];
    page.on("requestfinished", (request) => requests.push(request));
    await page.goto("/");
    await page.getByLabel("Username").waitFor();
    const files = requests.filter((request) => !request.url().endsWith("/graphql"));
    let total = 0;
    for (const request of files) total += (await request.sizes()).responseBodySize;
    assert.equal(total > 10_000 && total < 80_000, true, `${total} bytes`);
    const html = await readFile("dist/index.html", "utf8");
    assert.equal(html.includes("graphiql"), false);
  });

  test("renders the page once the viewer is loaded, and nothing shifts when the rest loads", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Without a jump");
    const { page, signIn, button } = await env.openWindow();
    await page.addInitScript(() => {
      globalThis.layoutShift = 0;
      new PerformanceObserver((list) => {
        for (const { value } of list.getEntries()) globalThis.layoutShift += value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await signIn(`/systems/${id}`);
    let releaseRequests;
    let released;
    await page.route("**/graphql", async (route) => {
      if (route.request().postDataJSON().operationName !== "Viewer") await released;
      await route.continue();
    });
    for (const [path, loaded] of [
      ["/systems", page.getByRole("rowheader").first()],
      [`/systems/${id}`, page.getByRole("rowheader", { name: "Created the system" })],
      [`/systems/${id}/edit`, button("Save")],
      ["/audit", page.getByRole("rowheader").first()],
    ]) {
      released = new Promise((resolve) => {
        releaseRequests = resolve;
      });
      await page.goto(path);
      await page.waitForFunction(
        () => performance.getEntriesByName("first-contentful-paint").length > 0,
      );
      await page.getByRole("heading", { level: 1 }).waitFor();
      releaseRequests();
      await loaded.waitFor();
      const shift = await page.evaluate(() => globalThis.layoutShift);
      assert.equal(shift < 0.02, true, `${path} shifted by ${shift}`);
    }
  });

  test("ignores the response to a search that has changed since", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Late answer");
    await api.createSystem("Later answer");
    const { page, signIn, row } = await env.openWindow();
    let releaseLate;
    const released = new Promise((resolve) => {
      releaseLate = resolve;
    });
    await page.route("**/graphql", async (route) => {
      const { operationName, variables } = route.request().postDataJSON();
      if (operationName === "Systems" && variables.search === "late") await released;
      await route.continue();
    });
    await signIn("/systems?search=answer");
    await row("Late answer").waitFor();
    const requested = page.waitForRequest((request) => searchesFor(request, "late"));
    await page.getByRole("searchbox").fill("late");
    const lateRequest = await requested;
    const responded = page.waitForResponse((response) => searchesFor(response.request(), "later"));
    // Typing on filters the loaded rows without waiting for a response.
    await page.getByRole("searchbox").fill("later");
    await row("Late answer").waitFor({ state: "detached" });
    await responded;
    releaseLate();
    await lateRequest.response().catch(() => undefined);
    await row("Later answer").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), ["Later answer"]);
  });

  test("prints its content without controls", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("On paper");
    const { page, signIn, row, link } = await env.openWindow();
    await signIn("/systems?search=paper");
    await row("On paper").waitFor();
    await page.emulateMedia({ media: "print" });
    await row("On paper").getByText("Not generated").waitFor();
    assert.equal(await link("Create API key").isVisible(), false);
    assert.equal(await page.getByRole("searchbox").isVisible(), false);
  });
});

const searchesFor = (request, search) =>
  request.postData()?.includes(`"search":"${search}"`) ?? false;
