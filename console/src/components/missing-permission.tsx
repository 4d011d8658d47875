import { type Action, missingPermission, permissionCode } from "../text/permissions";

export function MissingPermission({ action }: { action: Action }) {
  return <p class="quiet">{missingPermission(permissionCode(action))}</p>;
}
