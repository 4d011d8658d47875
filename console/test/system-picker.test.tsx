// @vitest-environment happy-dom
import { useState } from "preact/hooks";
import { beforeEach, expect, test, vi } from "vitest";
import { SystemPicker } from "../src/components/system-picker";
import { show, system } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

/** Shows the picker as a filter that keeps what is picked. */
function showPicker(systems: readonly (typeof system)[]) {
  const picked = vi.fn();
  function Filter() {
    const [systemId, setSystemId] = useState<string>();
    const onPick = (id: string | undefined) => {
      picked(id);
      setSystemId(id);
    };
    return <SystemPicker systemId={systemId} seen={new Map()} onPick={onPick} />;
  }
  const pageInfo = { hasNextPage: false, endCursor: null };
  const responses = { Systems: { systems: { nodes: systems, pageInfo } } };
  const shown = show(<Filter />, { permissions: ["view"], responses });
  shown.input()?.focus();
  const enter = async (text: string) => {
    shown.type(text);
    await vi.advanceTimersByTimeAsync(0);
    const enterKey = new KeyboardEvent("keydown", { key: "Enter", bubbles: true });
    shown.input()?.dispatchEvent(enterKey);
    await vi.advanceTimersByTimeAsync(1_000);
  };
  return { ...shown, picked, enter };
}

test("Enter picks the only system that matches", async () => {
  const { picked, enter, input, text } = showPicker([system]);
  await enter("ill");
  expect(picked.mock.calls).toEqual([["s1"]]);
  expect(input()?.value).toBe("Billing");
  expect(text()).not.toContain("match");
});

test("Enter says that no system matches, or that several do", async () => {
  const other = { ...system, id: "s2", name: "Billing 2" };
  const { picked, enter, input, text, type } = showPicker([system, other]);
  await enter("shipping");
  expect(text()).toContain("No system matches “shipping”.");
  expect(input()?.getAttribute("aria-invalid")).toBe("true");
  type("b");
  await vi.advanceTimersByTimeAsync(100);
  expect(text()).not.toContain("No system matches");
  await enter("bil");
  expect(text()).toContain("Several systems match.");
  expect(picked).not.toHaveBeenCalled();
  await enter("BILLING");
  expect(picked.mock.calls).toEqual([["s1"]]);
});

test("a name typed before the server suggests it picks its system, and the input keeps the focus", async () => {
  const { input, type, picked } = showPicker([system]);
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
