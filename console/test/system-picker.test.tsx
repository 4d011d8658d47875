// @vitest-environment happy-dom
import { useState } from "preact/hooks";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SystemPicker } from "../src/components/system-picker";
import { show } from "./support/render";

let unmount = () => {};
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  unmount();
  vi.useRealTimers();
});

test("a name that is typed before the server has suggested it picks its system, and the field keeps the focus", async () => {
  const picked = vi.fn();
  function Filter() {
    const [systemId, setSystemId] = useState<string>();
    const onPick = (id: string | undefined) => {
      picked(id);
      setSystemId(id);
    };
    return <SystemPicker systemId={systemId} seen={new Map()} onPick={onPick} />;
  }
  const page = show(<Filter />, { codes: ["view"] });
  unmount = page.unmount;
  const field = page.root.querySelector("input");
  const type = (words: string) => {
    if (field !== null) field.value = words;
    field?.dispatchEvent(new Event("input", { bubbles: true }));
  };
  field?.focus();
  type("billing");
  expect(picked).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(picked.mock.calls).toEqual([["s1"]]);
  expect(document.activeElement).toBe(field);
  expect(field?.value).toBe("billing");

  type("");
  await vi.advanceTimersByTimeAsync(1_000);
  expect(picked.mock.calls).toEqual([["s1"], [undefined]]);
});
