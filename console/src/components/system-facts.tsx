import type { SystemPartsFragment } from "@keymark/client/documents";
import type { SystemUse } from "../live/use-system-use";
import { exactTime } from "../text/time";
import { Badges } from "./badges";
import { EndText } from "./end-text";
import { KeyMark } from "./key-mark";
import { LastKey } from "./last-key";
import { Name } from "./name";
import { SystemId } from "./system-id";
import { TimeAgo } from "./time-ago";
import { useFlash } from "./use-flash";

interface SystemFactsProps {
  system: SystemPartsFragment;
  /** Undefined while it is not known. */
  use: SystemUse | undefined;
  /** Whether the system's id is shown too. */
  showId?: boolean;
}

export function SystemFacts({ system, use, showId = false }: SystemFactsProps) {
  const { currentKey } = system;
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
          <KeyMark mark={system.keyMark} /> <Badges system={system} />
        </dd>
      </div>
      <div>
        <dt>Last Updated</dt>
        <dd>
          <TimeAgo time={system.updatedAt} exact="beside" />
        </dd>
      </div>
      {system.description !== null && (
        <div class="wide">
          <dt>Description</dt>
          <dd class="description" dir="auto">
            {system.description}
          </dd>
        </div>
      )}
      {system.externalId !== null && (
        <div class="wide">
          <dt>External ID</dt>
          <dd>
            <Name>{system.externalId}</Name>
          </dd>
        </div>
      )}
      {currentKey && (
        <>
          <div>
            <dt>Key Generated</dt>
            <dd>
              <TimeAgo time={currentKey.generatedAt} exact="in row" /> by{" "}
              <Name>{currentKey.generatedBy.name}</Name>
              <span class="exact">{exactTime(new Date(currentKey.generatedAt))}</span>
            </dd>
          </div>
          <div>
            <dt>Key Expires</dt>
            <dd>
              <EndText time={currentKey.expiresAt} />
            </dd>
          </div>
        </>
      )}
      {use && (currentKey || use.lastUsedAt !== null) && (
        <div>
          <dt>Last Used</dt>
          <dd>
            {use.lastUsedAt === null ? "Never" : <TimeAgo time={use.lastUsedAt} exact="beside" />}
          </dd>
        </div>
      )}
      {system.lastKey && (
        <div class="wide">
          <dt>Last Key</dt>
          <dd>
            <LastKey systemId={system.id} lastKey={system.lastKey} refusals={use?.refusals} />
          </dd>
        </div>
      )}
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
