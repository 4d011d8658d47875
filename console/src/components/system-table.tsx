import type { KeyState, SystemOrder, SystemOrderField } from "@keymark/client/documents";
import { useState } from "preact/hooks";
import { orderAfterClick } from "../text/system-order";
import { SortHeader } from "./sort-header";
import { SystemRows } from "./system-rows";
import { useInteraction } from "./use-interaction";

interface SystemTableProps {
  /** The debounced search that is sent to the server. */
  search: string;
  /** The text in the search box, which filters the loaded rows immediately. */
  typed: string;
  state: KeyState | undefined;
  order: SystemOrder;
  onSort: (order: SystemOrder) => void;
}

export function SystemTable({ search, typed, state, order, onSort }: SystemTableProps) {
  const { ref, interacting } = useInteraction<HTMLTableElement>();
  const [outdated, setOutdated] = useState(false);
  const sortable = (field: SystemOrderField) => ({
    direction: order.field === field ? order.direction : undefined,
    onSort: () => onSort(orderAfterClick(order, field)),
  });
  return (
    <>
      <table class="systems" ref={ref} aria-label="Systems">
        <thead>
          <tr>
            <SortHeader label="System Name" {...sortable("NAME")} />
            <th scope="col">API Key Mark</th>
            <SortHeader label="Last Updated" {...sortable("UPDATED_AT")} />
            <SortHeader label="Created" {...sortable("CREATED_AT")} />
            <td />
          </tr>
        </thead>
        <SystemRows
          key={`${order.field} ${order.direction} ${state}`}
          search={search}
          state={state}
          order={order}
          typed={typed}
          frozen={interacting}
          onOutdated={setOutdated}
        />
      </table>
      <p role="status" class={interacting && outdated ? "list-outdated" : undefined}>
        {interacting && outdated && "The list has changed. It updates when you leave it."}
      </p>
    </>
  );
}
