import type { SystemOrder } from "@keymark/client/documents";
import { useCallback } from "preact/hooks";
import { Link } from "../router";
import { systemPath } from "../routes";
import { orderAfterClick } from "../text/system-order";
import { Badges } from "./badges";
import { EndText } from "./end-text";
import { KeyMark } from "./key-mark";
import { memo } from "./memo";
import { Name } from "./name";
import { SortHeader } from "./sort-header";
import { TimeAgo } from "./time-ago";
import type { ReviewedRow } from "./use-review-rows";

interface ReviewTableProps {
  rows: readonly ReviewedRow[];
  selected: ReadonlySet<string>;
  onSelect: (change: (ids: ReadonlySet<string>) => ReadonlySet<string>) => void;
  order: SystemOrder;
  /** Undefined if the rows have one order. */
  onSort: ((order: SystemOrder) => void) | undefined;
}

const COLUMNS = [
  ["NAME", "System Name"],
  [undefined, "API Key Mark"],
  ["LAST_USED_AT", "Last Used"],
  ["KEY_GENERATED_AT", "Key Generated"],
  ["KEY_EXPIRES_AT", "Key Expires"],
] as const;

/** Systems to select. Deleted ones stay in place and cannot be selected. */
export function ReviewTable({ rows, selected, onSelect, order, onSort }: ReviewTableProps) {
  const selectable = rows.filter(({ isDeleted }) => !isDeleted).map(({ system }) => system.id);
  const all = selectable.length > 0 && selectable.every((id) => selected.has(id));
  const toggle = useCallback(
    (id: string, on: boolean) =>
      onSelect((ids) => new Set(on ? [...ids, id] : [...ids].filter((other) => other !== id))),
    [onSelect],
  );
  return (
    <table class="review" aria-label="Systems to review">
      <thead>
        <tr>
          <td>
            <input
              type="checkbox"
              aria-label="Select all"
              checked={all}
              disabled={selectable.length === 0}
              onChange={() => onSelect(() => new Set(all ? [] : selectable))}
            />
          </td>
          {COLUMNS.map(([field, label]) =>
            field === undefined || onSort === undefined ? (
              <th key={label} scope="col">
                {label}
              </th>
            ) : (
              <SortHeader
                key={label}
                label={label}
                direction={order.field === field ? order.direction : undefined}
                onSort={() => onSort(orderAfterClick(order, field))}
              />
            ),
          )}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <ReviewTableRow
            key={row.system.id}
            row={row}
            isSelected={selected.has(row.system.id)}
            onToggle={toggle}
          />
        ))}
      </tbody>
    </table>
  );
}

interface ReviewTableRowProps {
  row: ReviewedRow;
  isSelected: boolean;
  onToggle: (id: string, on: boolean) => void;
}

const ReviewTableRow = memo(({ row, isSelected, onToggle }: ReviewTableRowProps) => {
  const { system, isDeleted } = row;
  const { currentKey } = system;
  return (
    <tr class={isDeleted ? "deleted" : undefined}>
      <td>
        <input
          type="checkbox"
          aria-label={`Select ${system.name}`}
          checked={isSelected && !isDeleted}
          disabled={isDeleted}
          onChange={(event) => onToggle(system.id, event.currentTarget.checked)}
        />
      </td>
      <th scope="row">
        {isDeleted ? (
          <>
            <Name>{system.name}</Name> <span class="quiet">Deleted</span>
          </>
        ) : (
          <Link to={systemPath(system.id)}>
            <Name>{system.name}</Name>
          </Link>
        )}
      </th>
      <td>
        <KeyMark mark={system.keyMark} /> {!isDeleted && <Badges system={system} />}
      </td>
      <td data-label="Last used">
        {system.lastUsedAt === null ? (
          <>
            Never
            <span class="exact">
              Created <TimeAgo time={system.createdAt} />
            </span>
          </>
        ) : (
          <TimeAgo time={system.lastUsedAt} />
        )}
      </td>
      <td data-label="Key generated">
        {currentKey ? (
          <>
            <TimeAgo time={currentKey.generatedAt} /> by <Name>{currentKey.generatedBy.name}</Name>
          </>
        ) : (
          <span class="quiet">No key</span>
        )}
      </td>
      <td data-label="Key expires">{currentKey && <EndText time={currentKey.expiresAt} />}</td>
    </tr>
  );
});
