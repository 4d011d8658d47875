import type { AuditAction } from "@keymark/client/documents";
import { useViewer } from "../session/viewer-context";
import { ACTION_NAMES, isAuditAction } from "../text/audit";
import { type AuditLogFilter, isFiltering } from "../text/audit-filter";
import { PERIODS } from "../text/period";
import { fromLocalInput, toLocalInput } from "../text/time";
import { MarkField } from "./mark-field";
import { SelectField } from "./select-field";
import { SystemPicker } from "./system-picker";
import { TimeField } from "./time-field";
import type { SeenNames } from "./use-seen-names";

interface AuditFiltersProps {
  filter: AuditLogFilter;
  operators: SeenNames;
  systems: SeenNames;
  onChoose: (filter: AuditLogFilter) => void;
}

/** The option that stands for a filter by several actions, which only a URL can set. */
const SEVERAL = "several";

export function AuditFilters({ filter, operators, systems, onChoose }: AuditFiltersProps) {
  const { actions = [], actorId, keyMark, outcome, from, to, systemId } = filter;
  const choose = (part: AuditLogFilter) => onChoose({ ...filter, ...part });
  return (
    <search class="filters" aria-label="Filter the audit log">
      <SystemPicker systemId={systemId} seen={systems} onPick={(id) => choose({ systemId: id })} />
      <MarkField mark={keyMark} onChoose={(mark) => choose({ keyMark: mark })} />
      <SelectField
        label="Operator"
        value={actorId ?? ""}
        options={[["", "Any"], ...useOperators(operators, actorId)]}
        onChoose={(id) => choose({ actorId: id || undefined })}
      />
      <SelectField
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
      <SelectField
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
        error={
          from !== undefined && to !== undefined && from >= to
            ? "From has to be before To."
            : undefined
        }
        onChoose={(local) => choose({ from: fromLocalInput(local) })}
      />
      <TimeField
        label="To"
        value={toLocalInput(to)}
        onChoose={(local) => choose({ to: fromLocalInput(local) })}
      />
      <fieldset class="periods">
        <legend class="visually-hidden">Period</legend>
        {PERIODS.map(([name, start]) => (
          <button
            key={name}
            type="button"
            onClick={() => choose({ from: start(new Date()).toISOString(), to: undefined })}
          >
            {name}
          </button>
        ))}
      </fieldset>
      {/* Not disabled once it was used: a disabled button loses the focus. */}
      <button
        type="button"
        aria-disabled={!isFiltering(filter)}
        onClick={() => {
          if (isFiltering(filter)) onChoose({});
        }}
      >
        Show all
      </button>
    </search>
  );
}

function severalNames(actions: readonly AuditAction[]): string {
  return actions.map((action) => ACTION_NAMES[action]).join(", ");
}

/** The API cannot list operators, so the options are those seen in the log, the viewer, and the selected one. */
function useOperators(seen: SeenNames, selected: string | undefined): [string, string][] {
  const { id, username } = useViewer();
  const names = new Map(seen);
  names.set(id, `${username} (you)`);
  if (selected !== undefined && !names.has(selected)) names.set(selected, selected);
  return Array.from(names).sort(([, one], [, other]) => one.localeCompare(other));
}
