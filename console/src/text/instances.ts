import type { InstanceState } from "@keymark/client/documents";

/** What an instance does, as far as the one that responds knows. */
export const INSTANCE_STATES: Record<InstanceState, string> = {
  CACHED: "Verifies from its cache",
  BYPASSED: "Reads the store for each verification: it has no current cache",
  SILENT: "Silent: it was stopped by force, or cannot reach the database",
};
