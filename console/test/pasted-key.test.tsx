// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { SearchBox } from "../src/components/search-box";
import { parseSearch } from "../src/text/pasted-key";
import { show } from "./support/render";

const BODY = "N3mr8EjXkzbZ084rdIxFQikAWsIsVBxzPMTmonxOGII30BIzi";

test.each([
  `km_${BODY}`,
  `acme_live_${BODY}`,
  `A_${BODY}`,
  `  km_${BODY}\n`,
  `X-Api-Key: km_${BODY}`,
  `"km_${BODY}"`,
])("of a whole key only the mark is searched for: %s", (text) => {
  expect(parseSearch(text)).toEqual({ keyMark: "BIzi" });
});

test.each([
  "",
  "BIzi",
  "billing",
  BODY,
  `_${BODY}`,
  `1_${BODY}`,
  `km_${BODY.slice(1)}`,
  `km_${BODY}x`,
  `km_${BODY}_`,
  `${"p".repeat(33)}_${BODY}`,
])("any other text is searched for as it is: %s", (text) => {
  expect(parseSearch(text)).toEqual({ text });
});

test("the pattern keeps no key", () => {
  parseSearch(`km_${BODY}`);
  expect(Reflect.get(RegExp, "input")).toBe("");
});

beforeEach(() => {
  vi.useFakeTimers();
});

test("a key never stays in the search box", () => {
  const onInput = vi.fn();
  const onKey = vi.fn();
  const box = <SearchBox label="Search systems" value="bill" onInput={onInput} onKey={onKey} />;
  const { input, type } = show(box, { permissions: ["view"] });
  const paste = new Event("paste", { bubbles: true, cancelable: true });
  Object.assign(paste, { clipboardData: { getData: () => `km_${BODY}` } });
  input()?.dispatchEvent(paste);
  expect(paste.defaultPrevented).toBe(true);
  expect(onKey.mock.calls).toEqual([["BIzi"]]);

  type(`billkm_${BODY}`);
  expect(input()?.value).toBe("bill");
  expect(onKey).toHaveBeenCalledTimes(2);
  expect(onInput).not.toHaveBeenCalled();
  type("billing");
  expect(onInput.mock.calls).toEqual([["billing"]]);
});
