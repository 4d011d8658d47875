import type { AuditAction, AuditFilter, AuditOutcome } from "@keymark/client/documents";
import { isAuditAction } from "./audit";

/** The filter of the Audit Log page. The URLs of the page and of the export use its field names as parameters. */
export interface AuditLogFilter {
  systemId?: string | undefined;
  keyMark?: string | undefined;
  actorId?: string | undefined;
  actions?: AuditAction[] | undefined;
  outcome?: AuditOutcome | undefined;
  from?: string | undefined;
  to?: string | undefined;
}

/** Reads a filter from the query of a URL; invalid parameters are ignored. */
export function parseAuditFilter(parameters: URLSearchParams): AuditLogFilter {
  const actions = (parameters.get("actions") ?? "").split(",").filter(isAuditAction);
  const outcome = parameters.get("outcome");
  return {
    systemId: parameters.get("systemId") || undefined,
    keyMark: parameters.get("keyMark") || undefined,
    actorId: parameters.get("actorId") || undefined,
    actions: actions.length === 0 ? undefined : actions,
    outcome: outcome === "DONE" || outcome === "REFUSED" ? outcome : undefined,
    from: parseTime(parameters.get("from")),
    to: parseTime(parameters.get("to")),
  };
}

function parseTime(text: string | null): string | undefined {
  if (text === null) return undefined;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

export function auditFilterParameters(filter: AuditLogFilter): URLSearchParams {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(filter)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters;
}

/** Returns the filter as a GraphQL input, which must omit unset fields. */
export const toGraphqlFilter = (filter: AuditLogFilter): AuditFilter =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));

export const isFiltering = (filter: AuditLogFilter): boolean =>
  Object.values(filter).some((value) => value !== undefined);

/** Returns the URL of the export of a tenant's log; undefined for the operator's own. */
export const exportPath = (
  filter: AuditLogFilter,
  format: "csv" | "jsonl",
  tenant: string | undefined,
): string => {
  const parameters = auditFilterParameters(filter);
  parameters.set("format", format);
  if (tenant !== undefined) parameters.set("tenant", tenant);
  return `/audit/export?${parameters}`;
};
