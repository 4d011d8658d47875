import type { ComponentChildren } from "preact";

/** A table body with a message across all columns instead of rows: loading, empty or failed. */
export function TableMessage({ children }: { children: ComponentChildren }) {
  return (
    <tbody class="message">
      <tr>
        <td>{children}</td>
      </tr>
    </tbody>
  );
}
