import type { SystemPartsFragment } from "../gql/graphql";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";
import { useFlash } from "./use-flash";

export function SystemFacts({ system }: { system: SystemPartsFragment }) {
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
          <TimeAgo time={system.updatedAt} />
        </dd>
      </div>
    </dl>
  );
}
