import type { ComponentChildren, RefObject } from "preact";

interface AuditTableProps {
  label: string;
  /** Whether there is a column for the system. */
  showSystem: boolean;
  tableRef?: RefObject<HTMLTableElement | null>;
  children: ComponentChildren;
}

/** The table around audit entries; its children are `tbody` elements. */
export function AuditTable({ label, showSystem, tableRef, children }: AuditTableProps) {
  return (
    <table
      class={showSystem ? "audit" : "audit one-system"}
      aria-label={label}
      {...(tableRef && { ref: tableRef })}
    >
      <thead>
        <tr>
          <th scope="col">Time</th>
          <th scope="col">Who</th>
          <th scope="col">What</th>
          {showSystem && <th scope="col">System</th>}
          <th scope="col">Outcome</th>
          <th scope="col">Address</th>
          <td />
        </tr>
      </thead>
      {children}
    </table>
  );
}
