import { useState } from "preact/hooks";
import { SystemRows } from "./system-rows";
import { useHold } from "./use-hold";

interface SystemTableProps {
  /** What the server is asked for. */
  search: string;
  /** What is typed: the rows that are there are filtered by it at once. */
  typed: string;
}

export function SystemTable({ search, typed }: SystemTableProps) {
  const { ref, held } = useHold<HTMLTableElement>();
  const [waiting, setWaiting] = useState(false);
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
        <SystemRows search={search} typed={typed} held={held} onWaiting={setWaiting} />
      </table>
      <p role="status" class={held && waiting ? "waiting" : undefined}>
        {held && waiting && "The list has changed. It moves once you have left it."}
      </p>
    </>
  );
}
