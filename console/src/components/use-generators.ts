import {
  AuditLogDocument,
  OperatorsDocument,
  type ReviewRowFragment,
} from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import { useState } from "preact/hooks";
import { useMay } from "../session/viewer-context";
import type { SeenNames } from "./use-seen-names";

/** More were rarely removed, and older ones have hardly left keys behind. */
const MAX_REMOVED = 200;
/** The longest page that the server returns. */
const MAX_LISTED = 200;

/**
 * Returns the operators whose keys can be reviewed: those of the tenant, for who may see them; those whose removal is in
 * the audit log; and those who generated a key that was loaded.
 */
export function useGenerators(
  enabled: boolean,
): [SeenNames, (systems: readonly ReviewRowFragment[]) => void] {
  const mayViewOperators = useMay("view-operators");
  const [{ data: current }] = useQuery({
    query: OperatorsDocument,
    variables: { first: MAX_LISTED },
    requestPolicy: "cache-and-network",
    pause: !enabled || !mayViewOperators,
  });
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
  const listed = new Map(current?.operators.nodes.map(({ id, username }) => [id, username]));
  const others = [...seen].filter(([id]) => !removed.has(id));
  return [new Map([...removed, ...listed, ...others]), collect];
}
