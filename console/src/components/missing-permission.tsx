import type { ComponentChildren } from "preact";
import { type Action, missingPermission, permissionCode } from "../text/permissions";

interface MissingPermissionProps {
  action: Action;
  /** What the operator may do nevertheless. */
  children?: ComponentChildren;
}

/** Takes the place of content that the operator lacks the permission code for. */
export function MissingPermission({ action, children }: MissingPermissionProps) {
  return (
    <section class="empty">
      <h2>Permission required</h2>
      <p>{missingPermission(permissionCode(action))}</p>
      {children}
    </section>
  );
}
