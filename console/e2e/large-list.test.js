import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

const COUNT = 1_000;
/** How many times as long as in a list of one system the answer to a key may take; drawing every row takes far more. */
const FACTOR = 8;

describe("a list of a thousand systems", () => {
  const env = fixture();

  test("loads on scrolling, stays where it is, and answers at once", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("System alone");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn();
    await row("System alone").waitFor();
    const amongOne = await typing(page, COMMON);

    const name = (number) => `System ${String(number).padStart(4, "0")}`;
    await api.createSystems(Array.from({ length: COUNT }, (_, number) => name(number)));
    await page.goto("/systems");
    await row(name(0)).waitFor();
    const rows = page.getByRole("rowheader");
    const all = [...names(COUNT, name), "System alone"];
    let loaded = await rows.count();
    assert.equal(loaded < all.length, true);
    while (loaded < all.length) {
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      await page.waitForFunction(
        (count) => document.querySelectorAll("tbody th").length > count,
        loaded,
      );
      loaded = await rows.count();
    }
    assert.equal((await rows.allTextContents()).join(), all.join());

    // Others' changes elsewhere move nothing that is looked at.
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight / 2));
    await row(name(500)).scrollIntoViewIfNeeded();
    const top = () => row(name(500)).evaluate(settledTop);
    const before = await top();
    await api.createSystem("A first one");
    await row("A first one").waitFor({ state: "attached" });
    assert.equal(Math.abs((await top()) - before) <= 1, true, `${before} became ${await top()}`);

    // There and back, by the history.
    await row(name(500)).getByRole("link").click();
    await page.getByRole("heading", { name: "System Detail" }).waitFor();
    await page.goBack();
    await row(name(500)).waitFor();
    await page.waitForFunction(() => scrollY > 5_000);

    // A key that is pressed is answered about as soon as where there is next to nothing to filter.
    const amongAll = await typing(page, COMMON);
    assert.equal(amongAll < FACTOR * amongOne, true, `${amongAll} ms, and ${amongOne} ms`);
    await page.getByRole("searchbox").pressSequentially("0077");
    await row(name(77)).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody th").length === 1);
    assertClean();
  });
});

/** What is typed so that every system still matches. */
const COMMON = "ystem ";

/** Types into the search box, and tells how long a key took: the best of them, as the machine does other things too. */
async function typing(page, text) {
  await page.getByRole("searchbox").focus();
  const times = [];
  for (const key of text) times.push(await page.evaluate(timeToType, key));
  return Math.min(...times);
}

/** Where an element's top is once it stays there: what is out of sight is laid out some frames later. */
const settledTop = (element) =>
  new Promise((resolve) => {
    const look = (before) => {
      const { top } = element.getBoundingClientRect();
      if (top === before) resolve(top);
      else requestAnimationFrame(() => requestAnimationFrame(() => look(top)));
    };
    look();
  });

const names = (count, name) => Array.from({ length: count }, (_, number) => name(number));

/** Types into the focused field and measures until the page has answered with its own work. */
const timeToType = (key) => {
  const field = document.activeElement;
  const start = performance.now();
  field.value += key;
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => resolve(performance.now() - start);
      channel.port2.postMessage(undefined);
    });
  });
};
