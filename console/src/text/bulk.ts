/** What can be done to several systems at a time. */
export type BulkAction = "suspend" | "revoke" | "delete";

export type Outcome =
  | { state: "waiting" | "running" | "done" | "stopped" }
  | { state: "failed"; message: string };

export const WAITING: Outcome = { state: "waiting" };

interface BulkOptions<Item> {
  items: readonly Item[];
  /** Resolves to the message of a failure, or to undefined. */
  act: (item: Item) => Promise<string | undefined>;
  isStopped: () => boolean;
  onOutcome: (item: Item, outcome: Outcome) => void;
}

/** Acts on one item after the other. A failure does not end it; once stopped, the remaining items are left alone. */
export async function runBulk<Item>(options: BulkOptions<Item>): Promise<void> {
  const { items, act, isStopped, onOutcome } = options;
  for (const item of items) {
    if (isStopped()) {
      onOutcome(item, { state: "stopped" });
      continue;
    }
    onOutcome(item, { state: "running" });
    const message = await act(item);
    onOutcome(item, message === undefined ? { state: "done" } : { state: "failed", message });
  }
}

/** Describes how far a bulk action is, such as "3 of 10 done, 1 failed". */
export function progressText(outcomes: readonly Outcome[]): string {
  const count = (state: Outcome["state"]) =>
    outcomes.filter((outcome) => outcome.state === state).length;
  const parts = [`${count("done")} of ${outcomes.length} done`];
  if (count("failed") > 0) parts.push(`${count("failed")} failed`);
  if (count("stopped") > 0) parts.push(`${count("stopped")} not attempted`);
  return parts.join(", ");
}
