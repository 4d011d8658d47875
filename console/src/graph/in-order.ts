import type { Exchange, OperationResult } from "@urql/core";
import { filter, fromArray, fromValue, mergeMap, pipe, tap } from "wonka";

/**
 * Puts right what HTTP and the WebSocket deliver in different orders, before the cache sees it:
 * - a change that is older than what is known of its system is dropped;
 * - an answer that was on its way while changes arrived may not know of them: they follow it once more.
 */
export const inOrderExchange: Exchange =
  ({ forward }) =>
  (operations) => {
    const revisions = new Map<string, number>();
    const arrivedSince = new Map<number, OperationResult[]>();
    return pipe(
      operations,
      tap(({ kind, key }) => {
        if (kind === "query") arrivedSince.set(key, []);
        else if (kind === "teardown") arrivedSince.delete(key);
      }),
      forward,
      filter((result) => {
        const systems = systemsIn(result.data);
        const old = systems.some(({ id, revision }) => revision < (revisions.get(id) ?? 0));
        if (old && result.operation.kind === "subscription") return false;
        for (const { id, revision } of systems) {
          revisions.set(id, Math.max(revision, revisions.get(id) ?? 0));
        }
        return true;
      }),
      mergeMap((result) => {
        const { kind, key } = result.operation;
        if (kind === "subscription") {
          for (const missed of arrivedSince.values()) missed.push(result);
        }
        const missed = arrivedSince.get(key) ?? [];
        arrivedSince.delete(key);
        return missed.length === 0 ? fromValue(result) : fromArray([result, ...missed]);
      }),
    );
  };

interface Revised {
  id: string;
  revision: number;
}

/** Every system in an answer, however deep. */
export function systemsIn(data: unknown): Revised[] {
  if (typeof data !== "object" || data === null) return [];
  if ("revision" in data && "id" in data) {
    const { id, revision } = data;
    if (typeof id === "string" && typeof revision === "number") return [{ id, revision }];
  }
  return Object.values(data).flatMap(systemsIn);
}
