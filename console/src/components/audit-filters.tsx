import type { AuditAction } from "../gql/graphql";
import { useViewer } from "../session/viewer-context";
import { ACTION_NAMES, isAuditAction } from "../text/audit";
import { type AuditChoice, isNarrowed } from "../text/audit-filter";
import { fromLocalInput, toLocalInput } from "../text/time";
import { Choice } from "./choice";
import { SystemPicker } from "./system-picker";
import { TimeField } from "./time-field";
import type { SeenNames } from "./use-seen-names";

interface AuditFiltersProps {
  choice: AuditChoice;
  operators: SeenNames;
  systems: SeenNames;
  onChoose: (choice: AuditChoice) => void;
}

const SEVERAL = "several";

/** Which entries of the log are shown. */
export function AuditFilters({ choice, operators, systems, onChoose }: AuditFiltersProps) {
  const { actions = [], actorId, outcome, from, to, systemId } = choice;
  const choose = (part: AuditChoice) => onChoose({ ...choice, ...part });
  return (
    <search class="filters" aria-label="Filter the audit log">
      <SystemPicker systemId={systemId} seen={systems} onPick={(id) => choose({ systemId: id })} />
      <Choice
        label="Operator"
        value={actorId ?? ""}
        options={[["", "Any"], ...useOperators(operators, actorId)]}
        onChoose={(id) => choose({ actorId: id || undefined })}
      />
      <Choice
        label="Action"
        value={actions.length > 1 ? SEVERAL : (actions[0] ?? "")}
        options={[
          ["", "Any"],
          ...(actions.length > 1 ? ([[SEVERAL, severalNames(actions)]] as const) : []),
          ...Object.entries(ACTION_NAMES),
        ]}
        onChoose={(action) => {
          if (action !== SEVERAL) choose({ actions: isAuditAction(action) ? [action] : undefined });
        }}
      />
      <Choice
        label="Outcome"
        value={outcome ?? ""}
        options={[
          ["", "Any"],
          ["DONE", "Done"],
          ["REFUSED", "Refused"],
        ]}
        onChoose={(chosen) =>
          choose({ outcome: chosen === "DONE" || chosen === "REFUSED" ? chosen : undefined })
        }
      />
      <TimeField
        label="From"
        value={toLocalInput(from)}
        onChoose={(local) => choose({ from: fromLocalInput(local) })}
      />
      <TimeField
        label="To"
        value={toLocalInput(to)}
        onChoose={(local) => choose({ to: fromLocalInput(local) })}
      />
      <button type="button" disabled={!isNarrowed(choice)} onClick={() => onChoose({})}>
        Show all
      </button>
    </search>
  );
}

function severalNames(actions: readonly AuditAction[]): string {
  return actions.map((action) => ACTION_NAMES[action]).join(", ");
}

/** The API lists no operators: those that the log shows, whoever is asking, and the one that is chosen. */
function useOperators(seen: SeenNames, chosen: string | undefined): [string, string][] {
  const { id, username } = useViewer();
  const names = new Map(seen);
  names.set(id, `${username} (you)`);
  if (chosen !== undefined && !names.has(chosen)) names.set(chosen, chosen);
  return Array.from(names).sort(([, one], [, other]) => one.localeCompare(other));
}
