import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

const HOSTILE = "<img src=x onerror=alert(1)>";

describe("the console", () => {
  const on = stage();

  test("shows names as names, whatever is in them", async () => {
    const api = await signedIn(on.keymark);
    const wide = "W".repeat(64);
    for (const name of [HOSTILE, wide, "متجر الهدايا"]) await api.createSystem(name);
    const { page, signIn, row, assertClean } = await on.window();
    page.on("dialog", () => assert.fail("a name ran as a script"));
    await page.setViewportSize({ width: 360, height: 740 });
    await signIn();
    for (const name of [HOSTILE, wide, "متجر الهدايا"]) {
      await row(name).getByRole("link").click();
      await page.getByRole("definition").filter({ hasText: name }).waitFor();
      await page.getByRole("button", { name: "Delete System" }).click();
      await page.getByRole("dialog").getByText(name).waitFor();
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.equal(overflow, 0, "the page scrolls sideways");
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByRole("link", { name: "API Key Management" }).click();
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

  test("goes back, forward and on to links, and says what is not there", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Linked to");
    const { page, signIn, row } = await on.window();
    const heading = (name) => page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
    await signIn(`/systems/${id}/edit?from=mail`);
    await heading("Edit System");
    assert.equal(new URL(page.url()).pathname, `/systems/${id}/edit`);
    await page.goto("/systems?search=linked");
    await row("Linked to").getByRole("link").click();
    await heading("System Detail");
    await page.getByRole("link", { name: "Manage API Key" }).click();
    await heading("Manage API Key");
    await page.goBack();
    await heading("System Detail");
    await page.goBack();
    await row("Linked to").waitFor();
    assert.equal(await page.getByRole("searchbox").inputValue(), "linked");
    await page.goForward();
    await heading("System Detail");
    await page.reload();
    await heading("System Detail");
    assert.equal(await page.title(), "System Detail – Keymark");

    for (const address of ["unknown", "sys_00000000000000000000000000", "unknown/edit", "x/key"]) {
      await page.goto(`/systems/${address}`);
      await heading("Page not found");
    }
    await page.goto(`/systems/${id}/what`);
    await heading("Page not found");
  });

  test("does not show a system of another tenant", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Of the default tenant");
    await on.keymark.manageOperator(
      ...["add", "stranger", "--tenant=elsewhere", "--permissions=view", "--password-stdin"],
    );
    const { page, signIn } = await on.window();
    await signIn("/systems", "stranger");
    await page.getByText("There are no systems yet.").waitFor();
    await page.goto(`/systems/${id}`);
    await page.getByRole("heading", { name: "Page not found" }).waitFor();
    assert.equal(await page.getByText("Of the default tenant").count(), 0);
  });

  test("says why it failed, and tries again when asked", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Behind a failure");
    const { page, signIn, row } = await on.window();
    await signIn("/systems/new");
    await page.route("**/graphql", (route) => route.abort());
    await page.getByRole("link", { name: "API Key Management" }).click();
    await page.getByText("Keymark cannot be reached.").waitFor();
    await page.unroute("**/graphql");
    await page.getByRole("button", { name: "Try again" }).click();
    await row("Behind a failure").waitFor();
  });

  test("says that it is offline and comes back by itself", async () => {
    const api = await signedIn(on.keymark);
    const { page, signIn, row } = await on.window();
    await signIn();
    await page.context().setOffline(true);
    await page.getByText("You are offline.").waitFor();
    await api.createSystem("Made while offline");
    await page.context().setOffline(false);
    await row("Made while offline").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
  });

  test("weighs less than 80 kB, GraphiQL apart", async () => {
    const { page } = await on.window();
    const asked = [];
    page.on("requestfinished", (request) => asked.push(request));
    await page.goto("/");
    await page.getByLabel("Username").waitFor();
    const files = asked.filter((request) => !request.url().endsWith("/graphql"));
    let total = 0;
    for (const request of files) total += (await request.sizes()).responseBodySize;
    assert.equal(total > 10_000 && total < 80_000, true, `${total} bytes`);
    const html = await readFile("dist/index.html", "utf8");
    assert.equal(html.includes("graphiql"), false);
  });

  test("shows its first content once it knows who looks, and nothing jumps when the rest comes", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Without a jump");
    const { page, signIn } = await on.window();
    await page.addInitScript(() => {
      globalThis.shifted = 0;
      new PerformanceObserver((list) => {
        for (const { value } of list.getEntries()) globalThis.shifted += value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await signIn(`/systems/${id}`);
    let answer;
    let painted;
    await page.route("**/graphql", async (route) => {
      if (route.request().postDataJSON().operationName !== "Viewer") await painted;
      await route.continue();
    });
    for (const [address, settled] of [
      ["/systems", page.getByRole("rowheader").first()],
      [`/systems/${id}`, page.getByRole("rowheader", { name: "Created the system" })],
      [`/systems/${id}/edit`, page.getByRole("button", { name: "Save" })],
      ["/audit", page.getByRole("rowheader").first()],
    ]) {
      painted = new Promise((resolve) => {
        answer = resolve;
      });
      await page.goto(address);
      await page.waitForFunction(
        () => performance.getEntriesByName("first-contentful-paint").length > 0,
      );
      await page.getByRole("heading", { level: 1 }).waitFor();
      answer();
      await settled.waitFor();
      const shifted = await page.evaluate(() => globalThis.shifted);
      assert.equal(shifted < 0.02, true, `${address} moved by ${shifted}`);
    }
  });

  test("drops answers that come too late for what is typed by then", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("Late answer");
    await api.createSystem("Later answer");
    const { page, signIn, row } = await on.window();
    let answerLate;
    const late = new Promise((resolve) => {
      answerLate = resolve;
    });
    await page.route("**/graphql", async (route) => {
      const { operationName, variables } = route.request().postDataJSON();
      if (operationName === "Systems" && variables.search === "late") await late;
      await route.continue();
    });
    await signIn("/systems?search=answer");
    await row("Late answer").waitFor();
    const asked = page.waitForRequest((request) => asksFor(request, "late"));
    await page.getByRole("searchbox").fill("late");
    const request = await asked;
    const answered = page.waitForResponse((response) => asksFor(response.request(), "later"));
    // Typing goes on, and filters what is there without waiting.
    await page.getByRole("searchbox").fill("later");
    await row("Late answer").waitFor({ state: "detached" });
    await answered;
    answerLate();
    await request.response().catch(() => undefined);
    await row("Later answer").waitFor();
    assert.deepEqual(await page.getByRole("rowheader").allTextContents(), ["Later answer"]);
  });

  test("prints what it says, without what can be pressed", async () => {
    const api = await signedIn(on.keymark);
    await api.createSystem("On paper");
    const { page, signIn, row } = await on.window();
    await signIn("/systems?search=paper");
    await row("On paper").waitFor();
    await page.emulateMedia({ media: "print" });
    await row("On paper").getByText("Not generated").waitFor();
    assert.equal(await page.getByRole("link", { name: "Create API key" }).isVisible(), false);
    assert.equal(await page.getByRole("searchbox").isVisible(), false);
  });
});

const asksFor = (request, search) => request.postData()?.includes(`"search":"${search}"`) ?? false;
