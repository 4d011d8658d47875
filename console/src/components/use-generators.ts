import { useQuery } from "@urql/preact";
import { useState } from "preact/hooks";
import { AuditLogDocument, type ReviewRowFragment } from "../gql/graphql";
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
      .flatMap((key) => (key?.generatedBy.id ? [[key.generatedBy.id, key.generatedBy.name]] : []))
      .filter(([id = ""]) => !seen.has(id));
    if (found.length > 0) setSeen(new Map([...seen, ...(found as [string, string][])]));
  };
  const removed = (data?.auditLog.nodes ?? []).flatMap(({ operatorId, operatorName }) =>
    operatorId ? [[operatorId, `${operatorName ?? operatorId} (removed)`] as const] : [],
  );
  const operators = new Map([...seen, ...removed]);
  const first = new Map(removed);
  return [new Map([...first, ...operators]), collect];
}
