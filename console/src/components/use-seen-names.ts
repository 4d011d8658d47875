import { useCallback, useState } from "preact/hooks";
import type { AuditEntryPartsFragment } from "../gql/graphql";

/** Names by id, of what was seen in the log: systems and operators that are gone have them nowhere else. */
export type SeenNames = ReadonlyMap<string, string>;

export function useSeenNames() {
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
