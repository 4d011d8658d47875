import type { SystemPartsFragment } from "../gql/graphql";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { SystemId } from "./system-id";
import { TimeAgo } from "./time-ago";
import { useFlash } from "./use-flash";

interface SystemFactsProps {
  system: SystemPartsFragment;
  /** Whether the system's id is shown too. */
  showId?: boolean;
}

export function SystemFacts({ system, showId = false }: SystemFactsProps) {
  const flashes = useFlash(system.revision);
  return (
    <dl class={flashes ? "facts changed" : "facts"}>
      <div>
        <dt>System Name</dt>
        <dd>
          <Name>{system.name}</Name>
        </dd>
      </div>
      <div>
        <dt>API Key Mark</dt>
        <dd>
          <KeyMark mark={system.keyMark} />
        </dd>
      </div>
      <div>
        <dt>Last Updated</dt>
        <dd>
          <TimeAgo time={system.updatedAt} showExact />
        </dd>
      </div>
      {showId && (
        <div class="wide">
          <dt>System ID</dt>
          <dd>
            <SystemId id={system.id} />
          </dd>
        </div>
      )}
    </dl>
  );
}
