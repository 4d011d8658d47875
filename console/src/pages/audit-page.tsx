import { useCallback, useState } from "preact/hooks";
import { AuditEntries } from "../components/audit-entries";
import { AuditFilters } from "../components/audit-filters";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import type { AuditEntryPartsFragment } from "../gql/graphql";
import { navigate, usePlace } from "../router";
import { auditAddress } from "../routes";
import { useMay } from "../session/viewer-context";
import { auditChoice, exportAddress } from "../text/audit-filter";

/** Names by id, of what was seen in the log: systems and operators that are gone have them nowhere else. */
export type SeenNames = ReadonlyMap<string, string>;

export function AuditPage() {
  const mayView = useMay("view");
  return (
    <>
      <PageHeading title="Audit Log" trail={[]} />
      {mayView ? <AuditLog /> : <MissingPermission action="view" />}
    </>
  );
}

function AuditLog() {
  const { search } = usePlace();
  const choice = auditChoice(search);
  const [operators, systems, noteNames] = useSeenNames();
  return (
    <>
      <AuditFilters
        choice={choice}
        operators={operators}
        systems={systems}
        onChoose={(chosen) => navigate(auditAddress(chosen))}
      />
      <p class="exports">
        Export what is filtered:{" "}
        <a href={exportAddress(choice, "csv")} download>
          CSV
        </a>{" "}
        <a href={exportAddress(choice, "jsonl")} download>
          JSON Lines
        </a>
      </p>
      <AuditEntries key={auditAddress(choice)} choice={choice} onSeen={noteNames} />
    </>
  );
}

function useSeenNames() {
  const [operators, setOperators] = useState<SeenNames>(new Map());
  const [systems, setSystems] = useState<SeenNames>(new Map());
  const note = useCallback((entries: readonly AuditEntryPartsFragment[]) => {
    const people = entries.filter(({ actor }) => actor.kind === "OPERATOR");
    setOperators((known) => withNames(known, people, ({ actor }) => [actor.id, actor.name]));
    setSystems((known) => withNames(known, entries, (entry) => [entry.systemId, entry.systemName]));
  }, []);
  return [operators, systems, note] as const;
}

type Named = (entry: AuditEntryPartsFragment) => [id: string | null, name: string | null];

function withNames(
  known: SeenNames,
  entries: readonly AuditEntryPartsFragment[],
  nameOf: Named,
): SeenNames {
  const added = entries.map(nameOf).filter(([id, name]) => id && name && !known.has(id));
  if (added.length === 0) return known;
  const names = new Map(known);
  // Entries come newest first, and so the newest name of an id is the first.
  for (const [id, name] of added) if (id && name && !names.has(id)) names.set(id, name);
  return names;
}
