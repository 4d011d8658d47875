import { useState } from "preact/hooks";
import { SystemRows } from "./system-rows";
import { useInteraction } from "./use-interaction";

interface SystemTableProps {
  /** The debounced search that is sent to the server. */
  search: string;
  /** The text in the search box, which filters the loaded rows immediately. */
  typed: string;
}

export function SystemTable({ search, typed }: SystemTableProps) {
  const { ref, interacting } = useInteraction<HTMLTableElement>();
  const [outdated, setOutdated] = useState(false);
  return (
    <>
      <table class="systems" ref={ref} aria-label="Systems">
        <thead>
          <tr>
            <th scope="col">System Name</th>
            <th scope="col">API Key Mark</th>
            <th scope="col">Last Updated</th>
            <td />
          </tr>
        </thead>
        <SystemRows search={search} typed={typed} frozen={interacting} onOutdated={setOutdated} />
      </table>
      <p role="status" class={interacting && outdated ? "list-outdated" : undefined}>
        {interacting && outdated && "The list has changed. It updates when you leave it."}
      </p>
    </>
  );
}
