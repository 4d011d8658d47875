import type { Cache } from "@urql/exchange-graphcache";
import {
  type SystemPartsFragment,
  SystemsDocument,
  type SystemsQuery,
  type SystemsQueryVariables,
} from "../gql/graphql";
import { matchesSearch } from "../text/names";
import { type Page, withoutRow, withRow } from "./rows";

/** Shows a created or renamed system in every loaded list that it belongs in, and in no other. */
export function showSystem(cache: Cache, system: SystemPartsFragment): void {
  rearrange(cache, (pages, search) =>
    matchesSearch(system.name, search) ? withRow(pages, system) : withoutRow(pages, system.id),
  );
  cache.link("Query", "system", { id: system.id }, { __typename: "System", id: system.id });
}

/** Takes a deleted system out of every loaded list and page. */
export function forgetSystem(cache: Cache, id: string): void {
  rearrange(cache, (pages) => withoutRow(pages, id));
  cache.link("Query", "system", { id }, null);
}

type Rearrange = (
  pages: Page<SystemPartsFragment>[],
  search: string,
) => Page<SystemPartsFragment>[];

function rearrange(cache: Cache, change: Rearrange): void {
  for (const search of loadedSearches(cache)) {
    const loaded = loadedPages(cache, search);
    const pages = loaded.map(toPage);
    const changed = change(pages, search.search ?? "");
    for (const [at, { variables }] of loaded.entries()) {
      // What is written again is shown again: most pages stay as they are.
      if (changed[at] === pages[at]) continue;
      cache.updateQuery<SystemsQuery, SystemsQueryVariables>(
        { query: SystemsDocument, variables },
        (data) => data && withNodes(data, changed[at]?.rows ?? data.systems.nodes),
      );
    }
  }
}

interface LoadedPage {
  variables: SystemsQueryVariables;
  data: SystemsQuery;
}

/** The arguments of each first page. */
const loadedSearches = (cache: Cache): SystemsQueryVariables[] =>
  cache
    .inspectFields("Query")
    .filter(({ fieldName, arguments: given }) => fieldName === "systems" && !given?.after)
    .map(({ arguments: given }): SystemsQueryVariables => ({ ...given }));

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

const toPage = ({ data: { systems } }: LoadedPage): Page<SystemPartsFragment> => ({
  rows: systems.nodes,
  hasNextPage: systems.pageInfo.hasNextPage,
});

const withNodes = (data: SystemsQuery, nodes: readonly SystemPartsFragment[]): SystemsQuery => ({
  ...data,
  systems: { ...data.systems, nodes: [...nodes] },
});
