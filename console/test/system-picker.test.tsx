// @vitest-environment happy-dom
import { useState } from "preact/hooks";
import { beforeEach, expect, test, vi } from "vitest";
import { SystemPicker } from "../src/components/system-picker";
import { show } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

test("a name typed before the server suggests it picks its system, and the input keeps the focus", async () => {
  const picked = vi.fn();
  function Filter() {
    const [systemId, setSystemId] = useState<string>();
    const onPick = (id: string | undefined) => {
      picked(id);
      setSystemId(id);
    };
    return <SystemPicker systemId={systemId} seen={new Map()} onPick={onPick} />;
  }
  const { input, type } = show(<Filter />, { permissions: ["view"] });
  input()?.focus();
  type("billing");
  expect(picked).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(picked.mock.calls).toEqual([["s1"]]);
  expect(document.activeElement).toBe(input());
  expect(input()?.value).toBe("billing");

  type("");
  await vi.advanceTimersByTimeAsync(1_000);
  expect(picked.mock.calls).toEqual([["s1"], [undefined]]);
});
