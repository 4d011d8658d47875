import type { SystemPartsFragment } from "../gql/graphql";
import { Link } from "../router";
import { systemAddress } from "../routes";
import { KeyMark } from "./key-mark";
import { TimeAgo } from "./time-ago";

export function SystemRow({ system }: { system: SystemPartsFragment }) {
  return (
    <tr>
      <th scope="row">{system.name}</th>
      <td>
        <KeyMark mark={system.keyMark} />
      </td>
      <td>
        <TimeAgo time={system.updatedAt} />
      </td>
      <td>
        <Link to={systemAddress(system.id)}>
          View<span class="for-readers"> {system.name}</span>
        </Link>
      </td>
    </tr>
  );
}
