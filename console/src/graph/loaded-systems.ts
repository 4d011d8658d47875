import {
  type SystemFilter,
  type SystemPartsFragment,
  SystemsDocument,
  type SystemsQuery,
  type SystemsQueryVariables,
} from "@keymark/client/documents";
import type { Cache } from "@urql/exchange-graphcache";
import { isFound } from "../text/names";
import { compareSystems, DEFAULT_ORDER, isComparable } from "../text/system-order";
import { type Page, withoutRow, withRow } from "./rows";

/** Puts a created or renamed system into every loaded list that it matches, and removes it from the others. */
export function upsertSystem(cache: Cache, system: SystemPartsFragment): void {
  updateLists(cache, (pages, variables) => placed(pages, system, variables));
  cache.link("Query", "system", { id: system.id }, { __typename: "System", id: system.id });
}

/** Moves a system that was changed otherwise, in the loaded lists that may have to show it elsewhere, or no longer. */
export function moveUpdatedSystem(cache: Cache, system: SystemPartsFragment): void {
  updateLists(cache, (pages, variables) => {
    const { search, filter, orderBy } = variables;
    const mayMove = search || filter || orderBy?.field === "UPDATED_AT";
    return mayMove ? placed(pages, system, variables) : pages;
  });
}

function placed(
  pages: Page<SystemPartsFragment>[],
  system: SystemPartsFragment,
  { search, filter, orderBy }: SystemsQueryVariables,
): Page<SystemPartsFragment>[] {
  return isFound(system, search ?? "") && matchesFilter(system, filter ?? {})
    ? withRow(pages, system, compareSystems(orderBy ?? DEFAULT_ORDER))
    : withoutRow(pages, system.id);
}

const matchesFilter = (
  { keyState, currentKey, retiringKey }: SystemPartsFragment,
  filter: SystemFilter,
): boolean =>
  (!filter.keyState || filter.keyState === keyState) &&
  (!filter.keyMark || filter.keyMark === currentKey?.mark || filter.keyMark === retiringKey?.mark);

/** The conditions that `matchesFilter` knows. The lists with others belong to reviews, whose rows stay as loaded. */
const KNOWN: readonly string[] = ["keyState", "keyMark"] satisfies (keyof SystemFilter)[];

const isKept = ({ filter, orderBy }: SystemsQueryVariables): boolean =>
  Object.keys(filter ?? {}).every((field) => KNOWN.includes(field)) &&
  isComparable(orderBy ?? DEFAULT_ORDER);

/** Removes a deleted system from every loaded list, and from its own page. */
export function removeSystem(cache: Cache, id: string): void {
  updateLists(cache, (pages) => withoutRow(pages, id));
  cache.link("Query", "system", { id }, null);
}

type UpdateList = (
  pages: Page<SystemPartsFragment>[],
  variables: SystemsQueryVariables,
) => Page<SystemPartsFragment>[];

function updateLists(cache: Cache, update: UpdateList): void {
  for (const search of loadedSearches(cache)) {
    const loaded = loadedPages(cache, search);
    const pages = loaded.map((page) => toPage(cache, page));
    const updated = update(pages, search);
    for (const [at, { variables }] of loaded.entries()) {
      // Writing a page renders it again, so pages that did not change are left alone.
      if (updated[at] === pages[at]) continue;
      cache.updateQuery<SystemsQuery, SystemsQueryVariables>(
        { query: SystemsDocument, variables },
        (data) => data && withNodes(data, updated[at]?.rows ?? data.systems.nodes),
      );
    }
  }
}

interface LoadedPage {
  variables: SystemsQueryVariables;
  data: SystemsQuery;
}

/**
 * The last row of each page as it was loaded, by the cursor that encodes its position. The cache cannot tell: it has the
 * row as it is now.
 */
const ends = new WeakMap<Cache, Map<string, SystemPartsFragment>>();

/** Records where a page of systems ends, when it is loaded. */
export function recordEnd(
  cache: Cache,
  { nodes, pageInfo }: Partial<SystemsQuery["systems"]>,
): void {
  const last = nodes?.at(-1);
  const cursor = pageInfo?.endCursor;
  if (last === undefined || !cursor) return;
  const known = ends.get(cache) ?? new Map<string, SystemPartsFragment>();
  ends.set(cache, known);
  // Pages are also written to move rows, which does not move their end.
  if (!known.has(cursor)) known.set(cursor, last);
}

/** The arguments of the first page of each loaded list. */
const loadedSearches = (cache: Cache): SystemsQueryVariables[] =>
  cache
    .inspectFields("Query")
    .filter(({ fieldName, arguments: variables }) => fieldName === "systems" && !variables?.after)
    .map(({ arguments: variables }): SystemsQueryVariables => ({ ...variables }))
    .filter(isKept);

function loadedPages(cache: Cache, first: SystemsQueryVariables): LoadedPage[] {
  const pages: LoadedPage[] = [];
  let variables = first;
  for (;;) {
    const data = cache.readQuery<SystemsQuery, SystemsQueryVariables>({
      query: SystemsDocument,
      variables,
    });
    if (data === null) return pages;
    pages.push({ variables, data });
    const { hasNextPage, endCursor } = data.systems.pageInfo;
    if (!hasNextPage || endCursor === null) return pages;
    variables = { ...first, after: endCursor };
  }
}

const toPage = (cache: Cache, { data: { systems } }: LoadedPage): Page<SystemPartsFragment> => ({
  rows: systems.nodes,
  hasNextPage: systems.pageInfo.hasNextPage,
  end: ends.get(cache)?.get(systems.pageInfo.endCursor ?? ""),
});

const withNodes = (data: SystemsQuery, nodes: readonly SystemPartsFragment[]): SystemsQuery => ({
  ...data,
  systems: { ...data.systems, nodes: [...nodes] },
});
