import type { AuditAction, AuditFilter, AuditOutcome } from "../gql/graphql";
import { isAuditAction } from "./audit";

/** The filter of the Audit Log as its address holds it; the names are those of the export's parameters. */
export interface AuditChoice {
  systemId?: string | undefined;
  actorId?: string | undefined;
  actions?: AuditAction[] | undefined;
  outcome?: AuditOutcome | undefined;
  from?: string | undefined;
  to?: string | undefined;
}

/** What an address asks for; parts that make no sense are as good as absent. */
export function auditChoice(parameters: URLSearchParams): AuditChoice {
  const actions = (parameters.get("actions") ?? "").split(",").filter(isAuditAction);
  const outcome = parameters.get("outcome");
  return {
    systemId: parameters.get("systemId") || undefined,
    actorId: parameters.get("actorId") || undefined,
    actions: actions.length === 0 ? undefined : actions,
    outcome: outcome === "DONE" || outcome === "REFUSED" ? outcome : undefined,
    from: moment(parameters.get("from")),
    to: moment(parameters.get("to")),
  };
}

function moment(text: string | null): string | undefined {
  if (text === null) return undefined;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

export function auditParameters(choice: AuditChoice): URLSearchParams {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(choice)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters;
}

/** The same for GraphQL, which tells null from absent. */
export const auditFilter = (choice: AuditChoice): AuditFilter =>
  Object.fromEntries(Object.entries(choice).filter(([, value]) => value !== undefined));

export const isNarrowed = (choice: AuditChoice): boolean =>
  Object.values(choice).some((value) => value !== undefined);

export const exportAddress = (choice: AuditChoice, format: "csv" | "jsonl"): string => {
  const parameters = auditParameters(choice);
  parameters.set("format", format);
  return `/audit/export?${parameters}`;
};
