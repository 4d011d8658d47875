import type { SystemOrder, SystemOrderField } from "@keymark/client/documents";
import { compareNames } from "./names";

interface Sortable {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}

type Compare<Row> = (one: Row, other: Row) => number;

export const DEFAULT_ORDER: SystemOrder = { field: "NAME", direction: "ASC" };

/** The names of the fields in the `sort` parameter of the URL. */
const PARAMETERS: Record<SystemOrderField, string> = {
  NAME: "name",
  CREATED_AT: "created",
  UPDATED_AT: "updated",
  LAST_USED_AT: "used",
  KEY_GENERATED_AT: "generated",
  KEY_EXPIRES_AT: "expires",
};

const compareText: Compare<string> = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

/** In any other order a list is not kept up to date: changes do not say when a key was last used. */
const COMPARE: Partial<Record<SystemOrderField, Compare<Sortable>>> = {
  NAME: (one, other) => compareNames(one.name, other.name),
  // Times of the API have one format, so that they are ordered as texts.
  CREATED_AT: (one, other) => compareText(one.createdAt, other.createdAt),
  UPDATED_AT: (one, other) => compareText(one.updatedAt, other.updatedAt),
};

/** Returns a comparison in the server's order: systems that are equal in the field are ordered by id. */
export function compareSystems({ field, direction }: SystemOrder): Compare<Sortable> {
  const sign = direction === "ASC" ? 1 : -1;
  return (one, other) => sign * (COMPARE[field]?.(one, other) || compareText(one.id, other.id));
}

export const isComparable = ({ field }: SystemOrder): boolean => COMPARE[field] !== undefined;

/** Reads the order from the `sort` parameter of a URL: a name, with `-` in front if descending. */
export function parseOrder(parameter: string | null): SystemOrder {
  const name = parameter?.replace(/^-/, "");
  const field = (Object.keys(PARAMETERS) as SystemOrderField[]).find(
    (known) => PARAMETERS[known] === name,
  );
  if (field === undefined) return DEFAULT_ORDER;
  return { field, direction: parameter?.startsWith("-") ? "DESC" : "ASC" };
}

/** Returns the `sort` parameter of a URL. */
export const orderText = ({ field, direction }: SystemOrder): string =>
  (direction === "DESC" ? "-" : "") + PARAMETERS[field];

/** Returns the `sort` parameter of the list's URL; undefined for the default order. */
export const orderParameter = (order: SystemOrder): string | undefined =>
  orderText(order) === orderText(DEFAULT_ORDER) ? undefined : orderText(order);

/** Returns the order after a click on a column: names start at A, times with the newest; a second click reverses it. */
export function orderAfterClick(current: SystemOrder, field: SystemOrderField): SystemOrder {
  if (current.field !== field) return { field, direction: field === "NAME" ? "ASC" : "DESC" };
  return { field, direction: current.direction === "ASC" ? "DESC" : "ASC" };
}
