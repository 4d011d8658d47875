import type { AuditEntryPartsFragment } from "@keymark/client/documents";
import { useCallback, useState } from "preact/hooks";

/** Names by id, collected from audit entries: the only source of the names of deleted systems and operators. */
export type SeenNames = ReadonlyMap<string, string>;

export function useSeenNames() {
  const [operators, setOperators] = useState<SeenNames>(new Map());
  const [systems, setSystems] = useState<SeenNames>(new Map());
  const collect = useCallback((entries: readonly AuditEntryPartsFragment[]) => {
    const byOperators = entries.filter(({ actor }) => actor.kind === "OPERATOR");
    setOperators((known) => withNames(known, byOperators, ({ actor }) => [actor.id, actor.name]));
    setSystems((known) => withNames(known, entries, (entry) => [entry.systemId, entry.systemName]));
  }, []);
  return [operators, systems, collect] as const;
}

type NameOf = (entry: AuditEntryPartsFragment) => [id: string | null, name: string | null];

function withNames(
  known: SeenNames,
  entries: readonly AuditEntryPartsFragment[],
  nameOf: NameOf,
): SeenNames {
  const added = entries.map(nameOf).filter(([id, name]) => id && name && !known.has(id));
  if (added.length === 0) return known;
  const names = new Map(known);
  // Entries are newest first, so the first name of an id is its newest.
  for (const [id, name] of added) if (id && name && !names.has(id)) names.set(id, name);
  return names;
}
