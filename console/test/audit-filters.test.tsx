// @vitest-environment happy-dom
import { useState } from "preact/hooks";
import { beforeEach, expect, test, vi } from "vitest";
import { AuditFilters } from "../src/components/audit-filters";
import type { AuditLogFilter } from "../src/text/audit-filter";
import { fromLocalInput } from "../src/text/time";
import { rendered, show } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

/** Shows the filters, which are applied as they are chosen. */
async function showFilters(initial: AuditLogFilter = {}) {
  const chosen: AuditLogFilter[] = [];
  function Filters() {
    const [filter, setFilter] = useState(initial);
    const choose = (next: AuditLogFilter) => {
      chosen.push(next);
      setFilter(next);
    };
    return (
      <AuditFilters filter={filter} operators={new Map()} systems={new Map()} onChoose={choose} />
    );
  }
  const shown = show(<Filters />, { permissions: ["view"] });
  await rendered();
  const from = shown.root.querySelector<HTMLInputElement>("input[type=datetime-local]");
  const showAll = shown.button("Show all");
  if (from === null || showAll === undefined) throw new Error("a control is missing");
  return { ...shown, chosen, from, showAll };
}

test("a time that is entered keeps the focus", async () => {
  const { root, chosen, from } = await showFilters();
  from.focus();
  from.value = "2026-03-01T12:00";
  from.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  await rendered();
  expect(chosen).toEqual([{ from: fromLocalInput("2026-03-01T12:00") }]);
  expect(root.contains(from)).toBe(true);
  expect(document.activeElement).toBe(from);
  expect(from.value).toBe("2026-03-01T12:00");
});

test("showing all empties the times, and keeps the focus", async () => {
  const { chosen, from, showAll } = await showFilters({ from: "2026-03-01T12:00:00.000Z" });
  expect(from.value).not.toBe("");
  showAll.focus();
  showAll.click();
  await rendered();
  expect(chosen).toEqual([{}]);
  expect(from.value).toBe("");
  expect(document.activeElement).toBe(showAll);
  expect([showAll.disabled, showAll.getAttribute("aria-disabled")]).toEqual([false, "true"]);
  showAll.click();
  expect(chosen.length).toBe(1);
});
