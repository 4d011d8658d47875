import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

const COUNT = 1_000;
/** The best of a few tries: the machine does other things meanwhile. */
const RESPONSIVE_MS = 50;

describe("a list of a thousand systems", () => {
  const on = stage();

  test("loads on scrolling, stays where it is, and answers at once", async () => {
    const api = await signedIn(on.keymark);
    const name = (number) => `System ${String(number).padStart(4, "0")}`;
    await api.createSystems(Array.from({ length: COUNT }, (_, number) => name(number)));
    const { page, signIn, row, assertClean } = await on.window();
    await signIn();
    await row(name(0)).waitFor();
    const rows = page.getByRole("rowheader");
    const loaded = () => rows.count();
    assert.equal((await loaded()) < COUNT, true);
    while ((await loaded()) < COUNT) {
      const before = await loaded();
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      await page.waitForFunction(
        (count) => document.querySelectorAll("tbody th").length > count,
        before,
      );
    }
    assert.equal((await rows.allTextContents()).join(), names(COUNT, name).join());

    // Others' changes elsewhere move nothing that is looked at.
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight / 2));
    await row(name(500)).scrollIntoViewIfNeeded();
    const top = () => row(name(500)).evaluate((element) => element.getBoundingClientRect().top);
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

    // A key that is pressed is shown within a frame or few.
    await page.getByRole("searchbox").focus();
    const times = [];
    for (const key of "m 0077") times.push(await page.evaluate(timeToType, key));
    assert.equal(Math.min(...times.slice(0, 4)) < RESPONSIVE_MS, true, `${times} ms`);
    await row(name(77)).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody th").length === 1);
    assertClean();
  });
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
