import { expect, test } from "vitest";
import { listPath } from "../src/routes";
import {
  compareSystems,
  DEFAULT_ORDER,
  orderAfterClick,
  orderParameter,
  parseOrder,
} from "../src/text/system-order";

const NEWEST_FIRST = { field: "UPDATED_AT", direction: "DESC" } as const;

test("an order is kept in the URL, unless it is the default", () => {
  for (const sort of ["-name", "created", "-created", "updated", "-updated"]) {
    expect(orderParameter(parseOrder(sort))).toBe(sort);
  }
  for (const sort of [null, "", "name", "-", "constructor", "-nonsense"]) {
    expect(parseOrder(sort)).toEqual(DEFAULT_ORDER);
  }
  expect(orderParameter(DEFAULT_ORDER)).toBeUndefined();
  expect(listPath("a b", NEWEST_FIRST)).toBe("/systems?search=a+b&sort=-updated");
  expect(listPath("", NEWEST_FIRST)).toBe("/systems?sort=-updated");
});

test("a click on a column sorts by it, and another one reverses the order", () => {
  const first = orderAfterClick(DEFAULT_ORDER, "UPDATED_AT");
  expect(first).toEqual(NEWEST_FIRST);
  const second = orderAfterClick(first, "UPDATED_AT");
  expect(second).toEqual({ field: "UPDATED_AT", direction: "ASC" });
  expect(orderAfterClick(second, "NAME")).toEqual(DEFAULT_ORDER);
  expect(orderAfterClick(DEFAULT_ORDER, "NAME")).toEqual({ field: "NAME", direction: "DESC" });
});

test("systems are compared as the server orders them, equal ones by id", () => {
  const system = (id: string, name: string, createdAt: string, updatedAt: string) => ({
    id,
    name,
    createdAt,
    updatedAt,
  });
  const systems = [
    system("s1", "beta", "2026-03-01T12:00:00.000Z", "2026-03-04T12:00:00.000Z"),
    system("s2", "Alpha", "2026-03-02T12:00:00.000Z", "2026-03-03T12:00:00.000Z"),
    system("s3", "gamma", "2026-03-02T12:00:00.000Z", "2026-03-02T12:00:00.000Z"),
  ];
  const sorted = (sort: string) =>
    systems
      .toSorted(compareSystems(parseOrder(sort)))
      .map(({ id }) => id)
      .join();
  expect(sorted("name")).toBe("s2,s1,s3");
  expect(sorted("-name")).toBe("s3,s1,s2");
  expect(sorted("created")).toBe("s1,s2,s3");
  expect(sorted("-created")).toBe("s3,s2,s1");
  expect(sorted("updated")).toBe("s3,s2,s1");
});
