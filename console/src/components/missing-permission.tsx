import type { ComponentChildren } from "preact";
import { type Action, missingPermission, permissionCode } from "../text/permissions";

interface MissingPermissionProps {
  action: Action;
  /** What can be done all the same. */
  children?: ComponentChildren;
}

/** Which code is missing, and whom to ask. */
export function MissingPermission({ action, children }: MissingPermissionProps) {
  return (
    <section class="empty">
      <h2>You cannot see this</h2>
      <p>{missingPermission(permissionCode(action))}</p>
      {children}
    </section>
  );
}
