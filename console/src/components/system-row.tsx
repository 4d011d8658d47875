import type { SystemPartsFragment } from "@keymark/client/documents";
import { Link } from "../router";
import { systemPath } from "../routes";
import { shortTime } from "../text/time";
import { Badges } from "./badges";
import { KeyMark } from "./key-mark";
import { memo } from "./memo";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";
import { useFlash } from "./use-flash";

interface SystemRowProps {
  system: SystemPartsFragment;
  /** Whether the system appeared while the list was open; the row then flashes. */
  isNew: boolean;
  /** Whether the system is deleted; its row stays while the operator interacts with the list. */
  isDeleted: boolean;
}

const exact = (time: string) => shortTime(new Date(time));

export const SystemRow = memo(({ system, isNew, isDeleted }: SystemRowProps) => {
  const flashes = useFlash(system.revision, isNew);
  return (
    <tr
      class={isDeleted ? "deleted" : flashes ? "changed" : undefined}
      data-times={`Updated ${exact(system.updatedAt)}\nCreated ${exact(system.createdAt)}`}
    >
      <th scope="row">
        <Name>{system.name}</Name>
      </th>
      <td>
        <KeyMark mark={system.keyMark} /> <Badges system={system} />
      </td>
      <td>
        <TimeAgo time={system.updatedAt} exact="in row" />
      </td>
      <td>
        <TimeAgo time={system.createdAt} exact="in row" />
      </td>
      <td>
        {isDeleted ? (
          <span class="quiet">Deleted</span>
        ) : (
          <Link to={systemPath(system.id)} class="view">
            View<span class="visually-hidden"> {system.name}</span>
          </Link>
        )}
      </td>
    </tr>
  );
});
