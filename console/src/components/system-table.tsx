import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { SystemsDocument } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Failed } from "./failed";
import { Loading } from "./loading";
import { SystemRow } from "./system-row";

const PAGE_SIZE = 50;
const COLUMNS = ["System Name", "API Key Mark", "Last Updated"];

export function SystemTable({ search }: { search: string }) {
  return (
    <table class="systems">
      <thead>
        <tr>
          {COLUMNS.map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
          <td />
        </tr>
      </thead>
      <tbody>
        <Rows search={search} />
      </tbody>
    </table>
  );
}

interface RowsProps {
  search: string;
  after?: string;
}

/** A page of rows and, once asked for, the pages after it. */
function Rows({ search, after }: RowsProps) {
  const [moreFor, setMoreFor] = useState<string>();
  const variables = { search, first: PAGE_SIZE, ...(after === undefined ? {} : { after }) };
  const [{ data, error, operation }, execute] = useLiveQuery(SystemsDocument, variables);

  if (!data) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <Line>{error === undefined ? <Loading /> : <Failed error={error} onRetry={retry} />}</Line>
    );
  }
  const { nodes, pageInfo } = data.systems;
  if (nodes.length === 0 && after === undefined && !pageInfo.hasNextPage) {
    return (
      <Line>{search === "" ? "There are no systems yet." : `No system matches “${search}”.`}</Line>
    );
  }
  // Rows of the last search stay until those of this one are here; their end is not this one's.
  const next = operation?.variables.search === search && pageInfo.hasNextPage && pageInfo.endCursor;
  return (
    <>
      {nodes.map((system) => (
        <SystemRow key={system.id} system={system} />
      ))}
      {next && moreFor === search && <Rows key={next} search={search} after={next} />}
      {next && moreFor !== search && (
        <Line>
          <button type="button" onClick={() => setMoreFor(search)}>
            More systems
          </button>
        </Line>
      )}
    </>
  );
}

function Line({ children }: { children: ComponentChildren }) {
  return (
    <tr>
      <td colSpan={COLUMNS.length + 1}>{children}</td>
    </tr>
  );
}
