import { AuditLogDocument, type ReviewRowFragment } from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import { useState } from "preact/hooks";
import type { SeenNames } from "./use-seen-names";

/** More were rarely removed, and older ones have hardly left keys behind. */
const MAX_REMOVED = 200;

/**
 * Returns the operators whose keys can be reviewed. The API cannot list operators, so these are the ones whose removal
 * is in the audit log, and those who generated a key that was loaded.
 */
export function useGenerators(
  enabled: boolean,
): [SeenNames, (systems: readonly ReviewRowFragment[]) => void] {
  const [{ data }] = useQuery({
    query: AuditLogDocument,
    variables: { filter: { actions: ["OPERATOR_REMOVED"] }, first: MAX_REMOVED },
    requestPolicy: "cache-and-network",
    pause: !enabled,
  });
  const [seen, setSeen] = useState<SeenNames>(new Map());
  const collect = (systems: readonly ReviewRowFragment[]) => {
    const found = systems
      .flatMap(({ currentKey, retiringKey }) => [currentKey, retiringKey])
      .map((key): [string, string] => [key?.generatedBy.id ?? "", key?.generatedBy.name ?? ""])
      .filter(([id]) => id !== "" && !seen.has(id));
    if (found.length > 0) setSeen(new Map([...seen, ...found]));
  };
  const removed = new Map(
    data?.auditLog.nodes.map(({ operatorId, operatorName }) => [
      operatorId ?? "",
      `${operatorName} (removed)`,
    ]),
  );
  const others = [...seen].filter(([id]) => !removed.has(id));
  return [new Map([...removed, ...others]), collect];
}
