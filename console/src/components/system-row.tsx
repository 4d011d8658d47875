import type { SystemPartsFragment } from "../gql/graphql";
import { Link } from "../router";
import { systemAddress } from "../routes";
import { KeyMark } from "./key-mark";
import { memo } from "./memo";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";
import { useFlash } from "./use-flash";

interface SystemRowProps {
  system: SystemPartsFragment;
  /** It has come while the list was looked at. */
  fresh: boolean;
  /** It is deleted, and stays only until nobody points at the list. */
  deleted: boolean;
}

export const SystemRow = memo(({ system, fresh, deleted }: SystemRowProps) => {
  const changed = useFlash(system.revision, fresh);
  return (
    <tr class={deleted ? "deleted" : changed ? "changed" : undefined}>
      <th scope="row">
        <Name>{system.name}</Name>
      </th>
      <td>
        <KeyMark mark={system.keyMark} />
      </td>
      <td>
        <TimeAgo time={system.updatedAt} />
      </td>
      <td>
        {deleted ? (
          <span class="quiet">Deleted</span>
        ) : (
          <Link to={systemAddress(system.id)} class="view">
            View<span class="for-readers"> {system.name}</span>
          </Link>
        )}
      </td>
    </tr>
  );
});
