import type { ComponentChildren } from "preact";

/** A body of a table that is no row of it: what is loading, missing or failed. */
export function TableLine({ children }: { children: ComponentChildren }) {
  return (
    <tbody class="line">
      <tr>
        <td>{children}</td>
      </tr>
    </tbody>
  );
}
