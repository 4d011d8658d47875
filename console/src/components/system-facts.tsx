import type { SystemPartsFragment } from "../gql/graphql";
import { KeyMark } from "./key-mark";
import { TimeAgo } from "./time-ago";

export function SystemFacts({ system }: { system: SystemPartsFragment }) {
  return (
    <dl class="facts">
      <dt>System Name</dt>
      <dd>{system.name}</dd>
      <dt>API Key Mark</dt>
      <dd>
        <KeyMark mark={system.keyMark} />
      </dd>
      <dt>Last Updated</dt>
      <dd>
        <TimeAgo time={system.updatedAt} />
      </dd>
    </dl>
  );
}
