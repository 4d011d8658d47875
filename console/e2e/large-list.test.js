import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

const COUNT = 1_000;
/** How many function calls a row may cost for each key that is typed. */
const MAX_CALLS_PER_ROW = 60;

describe("a list of a thousand systems", () => {
  const env = fixture();

  test("loads on scrolling, keeps its scroll position, and filters without rendering every row", async () => {
    const api = await signInToApi(env.keymark);
    const name = (number) => `System ${String(number).padStart(4, "0")}`;
    const all = Array.from({ length: COUNT }, (_, number) => name(number));
    await api.createSystems(all);
    const { page, signIn, row, link, assertClean } = await env.openWindow();
    await signIn();
    await row(name(0)).waitFor();
    const rows = page.getByRole("rowheader");
    let loaded = await rows.count();
    assert.equal(loaded < COUNT, true);
    while (loaded < COUNT) {
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      await page.waitForFunction(
        (count) => document.querySelectorAll("tbody th").length > count,
        loaded,
      );
      loaded = await rows.count();
    }
    assert.equal((await rows.allTextContents()).join(), all.join());

    // A row that is added above the viewport does not move the rows in it.
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight / 2));
    await row(name(500)).scrollIntoViewIfNeeded();
    const top = () => row(name(500)).evaluate(stableTop);
    const before = await top();
    await api.createSystem("A system before all others");
    await row("A system before all others").waitFor({ state: "attached" });
    assert.equal(Math.abs((await top()) - before) <= 1, true, `${before} became ${await top()}`);

    // Going back restores the scroll position.
    await link(`View ${name(500)}`).click();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    await page.goBack();
    await row(name(500)).waitFor();
    await page.waitForFunction(() => scrollY > 5_000);

    // Every row matches what is typed, so that none has to be rendered again.
    const calls = await callsPerKey(page, "ystem");
    assert.equal(calls < MAX_CALLS_PER_ROW * COUNT, true, `${calls} function calls for a key`);
    await page.getByRole("searchbox").fill("system 0077");
    await row(name(77)).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody th").length === 1);
    assertClean();
  });
});

/** Returns the top of an element once it is stable: content out of view is laid out some frames later. */
const stableTop = (element) =>
  new Promise((resolve) => {
    const look = (before) => {
      const { top } = element.getBoundingClientRect();
      if (top === before) resolve(top);
      else requestAnimationFrame(() => requestAnimationFrame(() => look(top)));
    };
    look();
  });

/** Types into the search box, and returns how many functions of the console each key called on average. */
async function callsPerKey(page, text) {
  await page.getByRole("searchbox").focus();
  const client = await page.context().newCDPSession(page);
  await client.send("Profiler.enable");
  await client.send("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  for (const key of text) await page.evaluate(typeKey, key);
  const { result } = await client.send("Profiler.takePreciseCoverage");
  await client.detach();
  const functions = result
    .filter(({ url }) => url.includes("/assets/"))
    .flatMap((script) => script.functions);
  return functions.reduce((sum, { ranges }) => sum + ranges[0].count, 0) / text.length;
}

/** Types a key into the focused field and waits until the page has rendered. */
const typeKey = (key) => {
  const field = document.activeElement;
  field.value += key;
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => resolve();
      channel.port2.postMessage(undefined);
    });
  });
};
