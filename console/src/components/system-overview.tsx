import type { SystemPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useSystemUse } from "../live/use-system-use";
import { RotationCockpit } from "./rotation-cockpit";
import { SuspensionBanner } from "./suspension-banner";
import { SystemFacts } from "./system-facts";

interface SystemOverviewProps {
  system: SystemPartsFragment;
  /** Whether the system's id is shown too. */
  showId?: boolean;
  onNotice: (notice: ComponentChildren) => void;
}

/** What there is to know of a system and its keys. */
export function SystemOverview({ system, showId = false, onNotice }: SystemOverviewProps) {
  const use = useSystemUse(system.id);
  return (
    <>
      <SuspensionBanner system={system} onNotice={onNotice} />
      <SystemFacts system={system} use={use} showId={showId} />
      <RotationCockpit system={system} use={use} onNotice={onNotice} />
    </>
  );
}
