import type { ComponentChildren, RefObject } from "preact";

interface AuditTableProps {
  label: string;
  /** Whether entries of several systems are in it. */
  withSystem: boolean;
  tableRef?: RefObject<HTMLTableElement | null>;
  children: ComponentChildren;
}

/** The frame of audit entries; its children are bodies of rows. */
export function AuditTable({ label, withSystem, tableRef, children }: AuditTableProps) {
  return (
    <table
      class={withSystem ? "audit" : "audit one-system"}
      aria-label={label}
      {...(tableRef && { ref: tableRef })}
    >
      <thead>
        <tr>
          <th scope="col">Time</th>
          <th scope="col">Who</th>
          <th scope="col">What</th>
          {withSystem && <th scope="col">System</th>}
          <th scope="col">Outcome</th>
          <th scope="col">Address</th>
        </tr>
      </thead>
      {children}
    </table>
  );
}
