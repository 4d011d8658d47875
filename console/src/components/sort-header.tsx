import type { OrderDirection } from "@keymark/client/documents";

interface SortHeaderProps {
  label: string;
  /** The direction in which the table is sorted by this column; undefined if it is sorted by another one. */
  direction: OrderDirection | undefined;
  onSort: () => void;
}

/** The header of a column that the table can be sorted by. */
export function SortHeader({ label, direction, onSort }: SortHeaderProps) {
  return (
    <th scope="col" aria-sort={direction && (direction === "ASC" ? "ascending" : "descending")}>
      <button type="button" class="sort" onClick={onSort}>
        {label}
        <span aria-hidden="true">
          {direction === "ASC" && " ▲"}
          {direction === "DESC" && " ▼"}
        </span>
      </button>
    </th>
  );
}
